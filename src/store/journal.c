#include "store/journal.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/owner.h"
#include "base/proc.h"

#include <fcntl.h>
#include <string.h>

/* Room for some 60 marks, so that a disk that fills up meanwhile cannot keep a change from being taken back.
 * What is reserved reads as NULs: the text ends at the first. */
#define RESERVE_BYTES 4096

struct StoreJournal {
    int fd; /* holds an OFD lock on byte 0 */
    char *path;
    guint64 end_bytes; /* of the text */
    guint64 torn_to;   /* what a torn write left behind the text ends here */
    guint64 taken_at;  /* where the line of who took it over begins, 0: nobody did */
    guint64 taken_end; /* and ends */
    json_t *head;      /* the first line */
    GHashTable *marks; /* "begun STEP", "done STEP" */
};

static const char *const mark_words[] = { [STORE_MARK_BEGUN] = "begun", [STORE_MARK_DONE] = "done" };

static char *
folder_of(const StoreTree *tree)
{
    return g_build_filename(tree->lib, "journal", NULL);
}

static char *
path_of(const StoreTree *tree, const char *kind, const char *uuid)
{
    return g_strdup_printf("%s/journal/%s-%s.jsonl", tree->lib, kind, uuid);
}

void
store_journal_info_free(StoreJournalInfo *info)
{
    if (!info)
        return;
    g_free(info->object_kind);
    g_free(info->uuid);
    g_free(info->name);
    g_free(info->change);
    g_free(info->what);
    g_free(info->command);
    g_clear_error(&info->why);
    json_decref(info->plan);
    g_free(info);
}

static StoreJournal *
journal_new(int fd, const char *path)
{
    StoreJournal *journal = g_new0(StoreJournal, 1);

    journal->fd = fd;
    journal->path = g_strdup(path);
    journal->marks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return journal;
}

/* Who took an entry over and came no further leaves it as it was, so that it does not grow with every try. */
static void
give_back(StoreJournal *journal)
{
    gboolean reserved;

    if (journal->taken_at == 0 || journal->end_bytes != journal->taken_end)
        return;
    if (fd_truncate(journal->fd, journal->taken_at, journal->path, NULL))
        fd_space(journal->fd, FD_SPACE_RESERVE, journal->taken_at, RESERVE_BYTES, &reserved, journal->path,
                 NULL);
}

void
store_journal_free(StoreJournal *journal)
{
    if (!journal)
        return;
    give_back(journal);
    fd_clear(&journal->fd);
    json_decref(journal->head);
    g_hash_table_unref(journal->marks);
    g_free(journal->path);
    g_free(journal);
}

/* A power failure may have kept the end of a line and not its beginning: a shorter line in its place would
 * bring it to light. Space that the file has is written, so that a full disk is in nobody's way. */
static gboolean
clear_torn(StoreJournal *journal, GError **error)
{
    if (journal->torn_to <= journal->end_bytes)
        return TRUE;
    gsize len = (gsize) (journal->torn_to - journal->end_bytes); /* at most STORE_JOURNAL_MAX_BYTES */
    g_autofree char *zeros = g_malloc0(len);

    if (!fd_pwrite_full(journal->fd, zeros, len, journal->end_bytes, journal->path, error)
        || !fd_sync(journal->fd, journal->path, error))
        return FALSE;
    journal->torn_to = 0;
    return TRUE;
}

static gboolean
append(StoreJournal *journal, const json_t *line, GError **error)
{
    g_autofree char *text = json_line(line);
    g_autofree char *whole = g_strconcat(text, "\n", NULL);
    gsize len = strlen(whole);

    if (!clear_torn(journal, error))
        return FALSE;
    if (!fd_pwrite_full(journal->fd, whole, len, journal->end_bytes, journal->path, error)
        || !fd_sync(journal->fd, journal->path, error))
        return FALSE;
    journal->end_bytes += len;
    return TRUE;
}

static json_t *
driver_line(void)
{
    json_t *line = json_object();
    g_autofree char *command = proc_own_command();

    json_object_set_new(line, "pid", json_integer(proc_own_pid()));
    json_set_string(line, "command", command);
    return line;
}

/* The empty, locked file, without a name or under a temporary one. */
static int
make_file(int folder, const char *temporary, const char *path, gboolean *named, GError **error)
{
    g_autoptr(GError) nameless = NULL;
    fd_auto int fd = entry_make_nameless(folder, 0600, path, &nameless);

    *named = fd < 0;
    if (fd < 0 && !g_error_matches(nameless, KHO_ERROR, KHO_ERROR_UNSUPPORTED)) {
        g_propagate_error(error, g_steal_pointer(&nameless));
        return -1;
    }
    if (fd < 0) {
        entry_unlink(folder, temporary, path, NULL);
        fd = fd_open_at(folder, temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, error);
    }
    if (fd < 0 || !fd_lock_range(fd, 0, 1, TRUE, path, error))
        return -1;
    owner_pass_on(folder, fd);
    return fd_steal(&fd);
}

static gboolean
write_head(StoreJournal *journal, GError **error)
{
    gboolean reserved;

    return append(journal, journal->head, error)
           && fd_space(journal->fd, FD_SPACE_RESERVE, journal->end_bytes, RESERVE_BYTES, &reserved,
                       journal->path, error)
           && fd_sync(journal->fd, journal->path, error);
}

static gboolean
name_file(StoreJournal *journal, int folder, const char *temporary, gboolean named, GError **error)
{
    g_autofree char *name = g_path_get_basename(journal->path);

    if (named)
        return entry_rename(folder, temporary, name, FALSE, journal->path, error);
    return entry_link(journal->fd, folder, name, journal->path, error);
}

StoreJournal *
store_journal_begin(const StoreTree *tree, const char *kind, const StoreJournalPlan *plan, GError **error)
{
    g_autofree char *folder_path = folder_of(tree);
    g_autofree char *path = path_of(tree, kind, plan->uuid);
    g_autofree char *temporary = g_strdup_printf(".%s-%s.kho-tmp", kind, plan->uuid);
    gboolean named;

    if (!owner_mkdir(folder_path, 0700, error) || !fd_sync_parent(folder_path, error))
        return NULL;
    fd_auto int folder = fd_open(folder_path, O_RDONLY | O_DIRECTORY, 0, error);
    int fd = folder < 0 ? -1 : make_file(folder, temporary, path, &named, error);
    if (fd < 0)
        return NULL;
    g_autoptr(StoreJournal) journal = journal_new(fd, path);
    journal->head = json_object();
    json_object_set_new(journal->head, "version", json_integer(STORE_JOURNAL_VERSION));
    json_set_string(journal->head, "kind", kind);
    json_set_string(journal->head, "uuid", plan->uuid);
    json_set_string(journal->head, "name", plan->name);
    json_set_string(journal->head, "change", plan->change);
    json_set_string(journal->head, "what", plan->what);
    json_object_set_new(journal->head, "since-ms", json_integer(g_get_real_time() / 1000));
    json_object_set_new(journal->head, "driver", driver_line());
    json_object_set_new(journal->head, "plan", json_deep_copy(plan->plan));
    g_autoptr(GError) why = NULL;
    if (write_head(journal, &why) && name_file(journal, folder, temporary, named, &why)
        && fd_sync(folder, folder_path, &why))
        return g_steal_pointer(&journal);
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_EXISTS)) {
        fail(error, KHO_ERROR_BUSY, "'%s' is being changed already", plan->name);
        return NULL;
    }
    if (named)
        entry_unlink(folder, temporary, path, NULL);
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "the journal of '%s': ", plan->name);
    return NULL;
}

/* The marks after the first line; a last line without its end was torn. */
static gboolean
read_marks(StoreJournal *journal, const char *text, gsize len, GError **error)
{
    gsize at = 0;

    for (const char *end; at < len && (end = memchr(text + at, '\n', len - at));
         at = (gsize) (end - text) + 1) {
        json_auto json_t *line = json_parse(text + at, (gsize) (end - text) - at, "a line", error);
        if (!line)
            return FALSE;
        const char *mark = json_string_or(line, "mark", NULL);
        if (!journal->head)
            journal->head = json_steal(&line);
        else if (mark)
            g_hash_table_add(journal->marks,
                             g_strdup_printf("%s %s", mark, json_string_or(line, "step", "")));
        else if (json_object_get(line, "driver"))
            json_object_set(journal->head, "driver", json_object_get(line, "driver"));
    }
    journal->end_bytes = at;
    return TRUE;
}

static gboolean
read_text(StoreJournal *journal, GError **error)
{
    gsize len;
    g_autofree char *text = fd_read_file(journal->path, STORE_JOURNAL_MAX_BYTES, &len, error);
    g_autofree char *change = NULL;
    gint64 version = 0;

    if (!text || !read_marks(journal, text, strnlen(text, len), error))
        return FALSE;
    for (; len > journal->end_bytes && text[len - 1] == '\0'; len--)
        ;
    journal->torn_to = len;
    if (!journal->head)
        return fail(error, KHO_ERROR_INVALID, "it holds no plan");
    if (!json_get_int(journal->head, "version", "its plan", &version, error)
        || !json_get_string(journal->head, "change", "its plan", &change, error))
        return FALSE;
    if (version > STORE_JOURNAL_VERSION)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "the journal entry %s has version %" G_GINT64_FORMAT
                    ", this kho knows %d: use a newer kho",
                    journal->path, version, STORE_JOURNAL_VERSION);
    return TRUE;
}

/* What is parsed here was written by kho: anything wrong with it is damage. */
static gboolean
read_entry(StoreJournal *journal, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (read_text(journal, &why))
        return TRUE;
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_INVALID))
        return fail(
            error, KHO_ERROR_CORRUPT,
            "the journal entry %s is damaged (%s), and what it began can be neither finished nor taken "
            "back: move it away, and look at the machine's disks before its next start",
            journal->path, why->message);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* "pid 12 (kho backup web1)" */
static char *
driver_text(const json_t *head)
{
    const json_t *driver = json_object_get(head, "driver");

    return g_strdup_printf("pid %" G_GINT64_FORMAT " (%s)", json_int_or(driver, "pid", 0),
                           json_string_or(driver, "command", "?"));
}

static StoreJournal *
fail_driven(const char *path, GError **error)
{
    g_autoptr(StoreJournal) other = journal_new(-1, path);

    if (!read_entry(other, NULL)) {
        fail(error, KHO_ERROR_BUSY, "%s is being driven by another process", path);
        return NULL;
    }
    g_autofree char *driver = driver_text(other->head);
    g_autoptr(GDateTime) since =
        g_date_time_new_from_unix_local(json_int_or(other->head, "since-ms", 0) / 1000);
    g_autofree char *clock = since ? g_date_time_format(since, "%F %T") : g_strdup("?");
    fail(error, KHO_ERROR_BUSY, "'%s' is busy: %s by %s since %s: wait for it or end it",
         json_string_or(other->head, "name", "?"), json_string_or(other->head, "what", "?"), driver, clock);
    return NULL;
}

StoreJournal *
store_journal_take(const StoreTree *tree, const char *kind, const char *uuid, GError **error)
{
    g_autofree char *folder_path = folder_of(tree);
    g_autofree char *path = path_of(tree, kind, uuid);
    g_autofree char *name = g_path_get_basename(path);
    g_autoptr(GError) why = NULL;
    fd_auto int fd = fd_open(path, O_RDWR | O_NOFOLLOW, 0, &why);

    if (fd < 0) {
        if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
            g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    if (!fd_lock_range(fd, 0, 1, TRUE, path, &why)) {
        if (g_error_matches(why, KHO_ERROR, KHO_ERROR_BUSY))
            return fail_driven(path, error);
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    fd_auto int folder = fd_open(folder_path, O_RDONLY | O_DIRECTORY, 0, error);
    if (folder < 0 || !entry_is_file(folder, name, fd))
        return NULL; /* its driver ended it between the open and the lock */
    g_autoptr(StoreJournal) journal = journal_new(fd_steal(&fd), path);
    if (!read_entry(journal, error))
        return NULL;
    /* For others' messages alone: that it cannot be written (a full disk) must not keep anybody from
     * recovery. */
    json_auto json_t *line = json_pack("{s:o}", "driver", driver_line());
    guint64 at = journal->end_bytes;
    if (append(journal, line, NULL)) {
        journal->taken_at = at;
        journal->taken_end = journal->end_bytes;
    }
    return g_steal_pointer(&journal);
}

const char *
store_journal_change(const StoreJournal *journal)
{
    return json_string_or(journal->head, "change", "");
}

const char *
store_journal_what(const StoreJournal *journal)
{
    return json_string_or(journal->head, "what", "");
}

const json_t *
store_journal_plan(const StoreJournal *journal)
{
    return json_object_get(journal->head, "plan");
}

gboolean
store_journal_has(const StoreJournal *journal, const char *step, StoreMark mark)
{
    g_autofree char *key = g_strdup_printf("%s %s", mark_words[mark], step);

    return g_hash_table_contains(journal->marks, key);
}

gboolean
store_journal_mark(StoreJournal *journal, const char *step, StoreMark mark, GError **error)
{
    json_auto json_t *line = json_pack("{s:s,s:s}", "step", step, "mark", mark_words[mark]);

    if (!append(journal, line, error))
        return FALSE;
    g_hash_table_add(journal->marks, g_strdup_printf("%s %s", mark_words[mark], step));
    return TRUE;
}

gboolean
store_journal_end(StoreJournal *journal, GError **error)
{
    return fd_unlink(journal->path, error) && fd_sync_parent(journal->path, error);
}

static StoreJournalInfo *
look_at(const char *path, GError **error)
{
    g_autoptr(StoreJournal) journal = journal_new(-1, path);
    fd_auto int fd = fd_open(path, O_RDONLY | O_NOFOLLOW, 0, error);
    StoreJournalInfo *info = NULL;
    gboolean driven = FALSE;

    if (fd < 0 || !read_entry(journal, error) || !fd_lock_probe(fd, 0, 1, TRUE, &driven, path, error))
        return NULL;
    const json_t *head = journal->head, *driver = json_object_get(head, "driver");
    info = g_new(StoreJournalInfo, 1);
    *info = (StoreJournalInfo){
        .object_kind = g_strdup(json_string_or(head, "kind", "")),
        .uuid = g_strdup(json_string_or(head, "uuid", "")),
        .name = g_strdup(json_string_or(head, "name", "")),
        .change = g_strdup(json_string_or(head, "change", "")),
        .what = g_strdup(json_string_or(head, "what", "")),
        .since_ms = json_int_or(head, "since-ms", 0),
        .pid = json_int_or(driver, "pid", 0),
        .command = g_strdup(json_string_or(driver, "command", "?")),
        .driven = driven,
        .plan = json_incref(json_object_get(head, "plan")),
    };
    return info;
}

StoreJournalInfo *
store_journal_look(const StoreTree *tree, const char *kind, const char *uuid)
{
    g_autofree char *path = path_of(tree, kind, uuid);

    return look_at(path, NULL);
}

/* One of the list, from its file's name: KIND-UUID.jsonl. NULL where it was ended just now. */
static StoreJournalInfo *
look_in_list(const char *folder_path, const char *name, const char *kind)
{
    g_autofree char *path = g_build_filename(folder_path, name, NULL);
    g_autoptr(GError) why = NULL;
    StoreJournalInfo *info = look_at(path, &why);

    if (info || g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return info;
    const char *uuid = name + strlen(kind) + 1;
    info = g_new0(StoreJournalInfo, 1);
    info->object_kind = g_strdup(kind);
    info->uuid = g_strndup(uuid, strlen(uuid) - strlen(".jsonl"));
    info->why = g_steal_pointer(&why);
    return info;
}

GPtrArray *
store_journal_list(const StoreTree *tree, const char *kind, GError **error)
{
    g_autofree char *folder_path = folder_of(tree);
    g_autofree char *prefix = g_strconcat(kind, "-", NULL);
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func((GDestroyNotify) store_journal_info_free);
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) folder = g_dir_open(folder_path, 0, &why);

    if (!folder && g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        return g_steal_pointer(&found);
    if (!folder) {
        fail(error, KHO_ERROR_IO, "the journal cannot be read: %s", why->message);
        return NULL;
    }
    for (const char *name; (name = g_dir_read_name(folder));) {
        if (!g_str_has_prefix(name, prefix) || !g_str_has_suffix(name, ".jsonl"))
            continue;
        StoreJournalInfo *info = look_in_list(folder_path, name, kind);
        if (info)
            g_ptr_array_add(found, info);
    }
    return g_steal_pointer(&found);
}
