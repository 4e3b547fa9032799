#include "snapshot/delete_users.h"

#include "base/error.h"

#include <string.h>

static gboolean
is_own(const NamedFile *file, const char *machine)
{
    return g_strcmp0(file->machine, machine) == 0;
}

static gboolean
same(const NamedFile *a, const NamedFile *b)
{
    return a->ino != 0 ? a->dev == b->dev && a->ino == b->ino : strcmp(a->path, b->path) == 0;
}

/* How well a file's name tells whose it is. */
static gint
rank(const NamedFile *file, const char *machine)
{
    return (is_own(file, machine) ? 2 : 0) + (file->is_below ? 0 : 1);
}

GPtrArray *
delete_followers(const GPtrArray *files, const char *machine, const char *path)
{
    GPtrArray *found = g_ptr_array_new();

    for (guint i = 0; i < files->len; i++) {
        NamedFile *file = files->pdata[i];
        guint at = 0;
        if (!named_file_lies_on(file, path))
            continue;
        while (at < found->len && !same(found->pdata[at], file))
            at++;
        if (at == found->len)
            g_ptr_array_add(found, file);
        else if (rank(file, machine) > rank(found->pdata[at], machine))
            found->pdata[at] = file;
    }
    return found;
}

/* One who is not @machine and names the file, or lies on it by an image that is not the machine's, too: who
 * reads it through the machine's own images goes with these. NULL for none. */
static const NamedFile *
foreign_user(const GPtrArray *files, const char *machine, const char *path)
{
    g_autoptr(GPtrArray) above = delete_followers(files, machine, path);

    for (guint i = 0; i < files->len; i++) {
        const NamedFile *file = files->pdata[i];
        if (!file->is_below && !is_own(file, machine) && named_file_is(file, path))
            return file;
    }
    for (guint i = 0; i < above->len; i++)
        if (!is_own(above->pdata[i], machine))
            return above->pdata[i];
    return NULL;
}

gboolean
delete_is_alone(const GPtrArray *files, const char *machine, const char *path)
{
    return !foreign_user(files, machine, path);
}

static gboolean
check_seen(const GPtrArray *files, const DeletePlan *plan, const DeleteDisk *row, GError **error)
{
    const NamedFile *unseen = plan->force ? NULL : named_files_unseen(files, row->file);

    if (!unseen)
        return TRUE;
    g_autofree char *text = named_file_unseen_text(unseen);
    return fail(error, KHO_ERROR_BUSY, "disk %s of snapshot '%s': %s: nothing was changed, delete again",
                row->target, plan->name, text);
}

static gboolean
check_row(const GPtrArray *files, const DeletePlan *plan, const DeleteDisk *row, GError **error)
{
    g_autoptr(GPtrArray) found = delete_followers(files, plan->machine, row->file);
    const NamedFile *user = foreign_user(files, plan->machine, row->file);

    if (!user)
        user = foreign_user(files, plan->machine, row->follower);
    for (guint i = 0; !user && i < found->len; i++)
        if (!named_file_is(found->pdata[i], row->follower))
            user = found->pdata[i];
    if (!user)
        return check_seen(files, plan, row, error);
    g_autofree char *text = named_file_text(user);
    return fail(
        error, KHO_ERROR_BUSY,
        "disk %s of snapshot '%s': %s has come to need %s meanwhile: nothing was changed, delete again",
        row->target, plan->name, text, row->file);
}

gboolean
delete_users_check(const StoreTree *tree, const DeletePlan *plan, GError **error)
{
    g_autoptr(GPtrArray) files = named_files(tree, error);

    if (!files)
        return FALSE;
    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        if (strcmp(row->how, DELETE_DOWN) != 0)
            continue;
        if (!named_files_add_folder(files, row->file, error) || !check_row(files, plan, row, error))
            return FALSE;
    }
    return TRUE;
}
