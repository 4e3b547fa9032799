/* The small files of JSON that kho keeps in its tree and reads back: a journal entry, the record of a pool's
 * formats, a run folder's status, the plan of a start, the list of disks behind saved memory, the mark of an
 * unfinished backup. Whoever may write there may write anything: it is read or refused, and what a journal
 * says is what is written again. The first byte says which it is. */
#include "backup/point.h"
#include "base/error.h"
#include "pool/formats.h"
#include "store/journal.h"
#include "vm/folder.h"
#include "vm/plan.h"
#include "vm/stamp.h"
#include "vm/status.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIND "qemu"
#define UUID "11111111-2222-4333-8444-555555555555"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char *folder;

static void
remove_folder(void)
{
    static const char *const names[] = { "journal/" KIND "-" UUID ".jsonl",
                                         "journal",
                                         "storage/" UUID ".json",
                                         "storage",
                                         VM_FILE_STATUS,
                                         BACKUP_MARK_FILE };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(folder, names[i], NULL);
        g_remove(path);
    }
    g_rmdir(folder);
    g_free(folder);
}

static void
make_folder(void)
{
    if (folder)
        return;
    folder = g_dir_make_tmp("kho-fuzz-XXXXXX", NULL);
    g_assert_nonnull(folder);
    atexit(remove_folder);
    for (const char *const *name = (const char *const[]){ "journal", "storage", NULL }; *name; name++) {
        g_autofree char *path = g_build_filename(folder, *name, NULL);
        g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    }
}

static char *
put(const char *name, const char *text, gsize len)
{
    char *path = g_build_filename(folder, name, NULL);
    FILE *file = g_fopen(path, "w");

    g_assert_nonnull(file);
    g_assert_cmpuint(fwrite(text, 1, len, file), ==, len);
    g_assert_cmpint(fclose(file), ==, 0);
    return path;
}

static void
expect_one_line(const GError *error)
{
    g_assert_nonnull(error);
    g_assert_null(strchr(error->message, '\n'));
}

static void
try_journal(const StoreTree *tree, const char *text, gsize len)
{
    g_autofree char *path = put("journal/" KIND "-" UUID ".jsonl", text, len);
    g_autoptr(StoreJournalInfo) seen = store_journal_look(tree, KIND, UUID);
    g_autoptr(GPtrArray) list = store_journal_list(tree, KIND, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_cmpuint(list->len, ==, 1);
    g_assert_true((((StoreJournalInfo *) list->pdata[0])->why == NULL) == (seen != NULL));
    g_autoptr(StoreJournal) taken = store_journal_take(tree, KIND, UUID, &error);
    g_assert_true((taken != NULL) == (seen != NULL));
    if (!taken) {
        expect_one_line(error);
        return;
    }
    g_assert_true(store_journal_mark(taken, "fuzz", STORE_MARK_DONE, NULL));
    g_clear_pointer(&taken, store_journal_free);
    taken = store_journal_take(tree, KIND, UUID, &error);
    g_assert_no_error(error);
    g_assert_true(store_journal_has(taken, "fuzz", STORE_MARK_DONE));
}

static void
try_formats(const StoreTree *tree, const char *text, gsize len)
{
    g_autofree char *path = put("storage/" UUID ".json", text, len);
    ModelPool pool = { .uuid = (char *) UUID, .target_path = folder };
    g_autoptr(GError) error = NULL;
    g_autoptr(PoolFormats) formats = pool_formats_load(tree, &pool, &error);

    if (formats)
        g_assert_null(pool_formats_get(formats, "nobody"));
    else
        expect_one_line(error);
}

static void
try_status(const char *text, gsize len)
{
    g_autofree char *path = put(VM_FILE_STATUS, text, len);
    g_autoptr(GError) error = NULL;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autoptr(VmStatus) status = vm_status_read(fd, &error);

    close(fd);
    if (!status) {
        expect_one_line(error);
        return;
    }
    json_auto json_t *json = vm_status_to_json(status);
    g_autoptr(VmStatus) again = vm_status_from_json(json, "again", &error);
    g_assert_no_error(error);
    g_assert_cmpstr(again->name, ==, status->name);
}

static void
try_plan(const char *text, gsize len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VmPlan) plan = vm_plan_from_json(text, len, &error);

    if (!plan) {
        expect_one_line(error);
        return;
    }
    g_autofree char *first = vm_plan_to_json(plan);
    g_autoptr(VmPlan) read = vm_plan_from_json(first, strlen(first), &error);
    g_assert_no_error(error);
    g_autofree char *second = vm_plan_to_json(read);
    g_assert_cmpstr(second, ==, first);
}

static void
try_stamps(const char *text, gsize len)
{
    g_autofree char *stamps = g_strndup(text, len);
    g_autoptr(GError) error = NULL;

    if (!vm_stamps_check(stamps, &error))
        g_assert_nonnull(error);
}

static void
try_mark(const char *text, gsize len)
{
    g_autofree char *path = put(BACKUP_MARK_FILE, text, len);
    gboolean driven;
    g_autofree char *id = backup_part_id(folder, &driven);

    g_assert_false(driven);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *text = (const char *) data + 1;

    if (len < 1)
        return 0;
    make_folder();
    const StoreTree tree = { .etc = folder, .lib = folder, .log = folder, .run = folder };
    switch (data[0]) {
    case 'j': try_journal(&tree, text, len - 1); break;
    case 'f': try_formats(&tree, text, len - 1); break;
    case 's': try_status(text, len - 1); break;
    case 'p': try_plan(text, len - 1); break;
    case 'd': try_stamps(text, len - 1); break;
    default: try_mark(text, len - 1); break;
    }
    return 0;
}
