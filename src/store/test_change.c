/* Rules held: a step that fails before the point of no return takes back all that began, last first; past it
 * the entry stays and recovery goes forward; a torn or missing mark only repeats a step; who drives is told;
 * a dead driver's entry is taken over; a settled change ends its entry. */
#include "base/error.h"
#include "store/change.h"
#include "store/lock.h"
#include "store/test_scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define UUID "7c1de0b2-4c9f-4b7e-9a55-0d6c7b9a1f00"

/* What the steps of the kind under test do: write down their letter, and fail or end the process where asked.
 */
static struct {
    GString *trace;
    char fails; /* the letter whose run fails */
    char dies;  /* the letter whose run ends the process */
    char undo_fails;
    ChangeDirection direction;
    gboolean asked;
    const char *left;
} script;

static gboolean
run_letter(char letter, GError **error)
{
    if (script.dies == letter)
        _exit(7);
    g_string_append_c(script.trace, letter);
    return script.fails != letter || fail(error, KHO_ERROR_IO, "step %c failed", letter);
}

static gboolean
undo_letter(char letter, GError **error)
{
    g_string_append_c(script.trace, g_ascii_toupper(letter));
    return script.undo_fails != letter || fail(error, KHO_ERROR_IO, "undo %c failed", letter);
}

#define RUN(l)                                                                                               \
    static gboolean run_##l(gpointer context, const KhoJob *job, GError **error)                             \
    {                                                                                                        \
        return run_letter(#l[0], error);                                                                     \
    }
#define UNDO(l)                                                                                              \
    static gboolean undo_##l(gpointer context, GError **error)                                               \
    {                                                                                                        \
        return undo_letter(#l[0], error);                                                                    \
    }
RUN(a)
RUN(b)
RUN(c)
RUN(d)
UNDO(a)
UNDO(b)
UNDO(d)

static gpointer
open_plan(const json_t *plan, gpointer data, GError **error)
{
    g_assert_cmpint(json_int_or(plan, "number", 0), ==, 42);
    return data;
}

static void
close_plan(gpointer context)
{
}

static gboolean
decide(gpointer context, ChangeDirection *direction, GError **error)
{
    script.asked = TRUE;
    *direction = script.direction;
    return TRUE;
}

static gboolean
settle(gpointer context, GError **error)
{
    g_string_append_c(script.trace, '!');
    return TRUE;
}

static const char *
left(gpointer context)
{
    return script.left;
}

static const ChangeStep steps[] = {
    { "a", run_a, undo_a, FALSE },
    { "b", run_b, undo_b, FALSE },
    { "c", run_c, NULL, FALSE },
    { "d", run_d, NULL, FALSE },
};
static const ChangeStep loose_steps[] = { { "a", run_a, undo_a, FALSE }, { "d", run_d, undo_d, TRUE } };
static const ChangeKind kind = { "kind", steps, G_N_ELEMENTS(steps), 2, open_plan, close_plan, decide,
                                 settle, left };
static const ChangeKind loose = { "loose", loose_steps, G_N_ELEMENTS(loose_steps),
                                  1,       open_plan,   close_plan,
                                  NULL,    NULL,        NULL };
static const ChangeKind *const kinds[] = { &loose, &kind, NULL };

typedef struct {
    char *root;
    StoreTree *tree;
} Fixture;

static void
set_up(Fixture *f, gconstpointer unused)
{
    f->root = scratch_make();
    f->tree = store_tree_open(f->root, NULL);
    g_assert_nonnull(f->tree);
    script.trace = g_string_new(NULL);
    script.fails = script.dies = script.undo_fails = 0;
    script.direction = CHANGE_FORWARD;
    script.asked = FALSE;
    script.left = NULL;
}

static void
tear_down(Fixture *f, gconstpointer unused)
{
    g_string_free(script.trace, TRUE);
    store_tree_free(f->tree);
    scratch_remove(f->root);
}

static StoreJournal *
begin(Fixture *f, const ChangeKind *which, GError **error)
{
    json_auto json_t *plan = json_pack("{s:i}", "number", 42);
    g_autofree char *what = g_strconcat(which->name, " of 'x'", NULL);

    return store_journal_begin(
        f->tree, STORE_LOCK_DOMAIN,
        &(StoreJournalPlan){
            .uuid = UUID, .name = "web1", .change = which->name, .what = what, .plan = plan },
        error);
}

static gboolean
run(Fixture *f, const ChangeKind *which, GError **error)
{
    StoreJournal *journal = begin(f, which, NULL);

    g_assert_nonnull(journal);
    g_autofree char *left = NULL;
    gboolean done = change_run(which, journal, f, NULL, &left, error);
    g_assert_cmpstr(left, ==, done ? script.left : NULL);
    return done;
}

static gboolean
recover(Fixture *f, char **outcome, GError **error)
{
    StoreJournal *journal = store_journal_take(f->tree, STORE_LOCK_DOMAIN, UUID, error);

    g_assert_nonnull(journal);
    gboolean left;
    gboolean done = change_recover(kinds, journal, f, outcome, &left, error);

    g_assert_cmpint(left, ==, done && script.left != NULL);
    return done;
}

static gboolean
entry_stands(Fixture *f)
{
    g_autoptr(StoreJournalInfo) info = store_journal_look(f->tree, STORE_LOCK_DOMAIN, UUID);

    return info != NULL;
}

/* In a child that dies in @step. */
static void
run_dying(Fixture *f, const ChangeKind *which, char step)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        script.dies = step;
        run(f, which, NULL);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(WEXITSTATUS(status), ==, 7);
}

static void
test_all_done(Fixture *f, gconstpointer unused)
{
    g_assert_true(run(f, &kind, NULL));
    g_assert_cmpstr(script.trace->str, ==, "abcd");
    g_assert_false(entry_stands(f));
}

static void
test_failure_takes_back(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    script.fails = 'b';
    g_assert_false(run(f, &kind, &error));
    g_assert_cmpstr(error->message, ==, "step b failed");
    g_assert_cmpstr(script.trace->str, ==, "abBA");
    g_assert_false(entry_stands(f));
    g_assert_false(script.asked);
}

static void
test_failed_undo_is_tried_again(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *outcome = NULL;

    script.fails = 'b';
    script.undo_fails = 'a';
    g_assert_false(run(f, &kind, &error));
    g_assert_nonnull(strstr(error->message, "step b failed; taking kind of 'x' back failed: undo a failed"));
    g_assert_true(entry_stands(f));
    script.undo_fails = 0;
    script.left = "a file";
    g_assert_true(recover(f, &outcome, NULL));
    g_assert_cmpstr(outcome, ==, "took back kind of 'x'; left behind: a file");
    g_assert_cmpstr(script.trace->str, ==, "abBABA");
    g_assert_false(entry_stands(f));
}

/* An undo that could not remove everything ends the change all the same. */
static void
test_failure_tells_what_is_left(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    script.fails = 'b';
    script.left = "a file";
    g_assert_false(run(f, &kind, &error));
    g_assert_cmpstr(error->message, ==, "step b failed; left behind: a file");
    g_assert_false(entry_stands(f));
}

/* Nor does a change that went through fail for it. */
static void
test_what_is_left_is_told_at_the_end(Fixture *f, gconstpointer unused)
{
    g_autofree char *outcome = NULL;

    script.left = "a file";
    g_assert_true(run(f, &kind, NULL));
    g_assert_false(entry_stands(f));
    run_dying(f, &kind, 'd');
    g_assert_true(recover(f, &outcome, NULL));
    g_assert_cmpstr(outcome, ==, "finished kind of 'x'; left behind: a file");
    g_assert_false(entry_stands(f));
}

static void
test_no_return(Fixture *f, gconstpointer unused)
{
    static const struct {
        ChangeDirection direction;
        const char *trace, *outcome;
    } rows[] = { { CHANGE_FORWARD, "cd", "finished kind of 'x'" },
                 { CHANGE_BACK, "BA", "took back kind of 'x'" },
                 { CHANGE_SETTLE, "!", "left kind of 'x' unfinished: give the command again to go on" } };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *outcome = NULL;

        g_string_truncate(script.trace, 0);
        run_dying(f, &kind, 'c');
        script.direction = rows[i].direction;
        g_assert_true(recover(f, &outcome, NULL));
        g_assert_cmpstr(script.trace->str, ==, rows[i].trace);
        g_assert_cmpstr(outcome, ==, rows[i].outcome);
        g_assert_false(entry_stands(f));
    }
}

static void
test_failure_past_no_return_stays(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    script.fails = 'd';
    g_assert_false(run(f, &kind, &error));
    g_assert_nonnull(strstr(error->message, "kind of 'x' is not finished: `kho recover` goes on"));
    g_assert_true(entry_stands(f));
    script.fails = 0;
    g_assert_true(recover(f, NULL, NULL));
    g_assert_cmpstr(script.trace->str, ==, "abcdd");
    g_assert_false(script.asked);
}

static void
test_every_death(Fixture *f, gconstpointer unused)
{
    static const struct {
        char dies;
        const char *trace;
    } rows[] = { { 'a', "A" }, { 'b', "BA" }, { 'c', "cd" }, { 'd', "d" } };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_string_truncate(script.trace, 0);
        run_dying(f, &kind, rows[i].dies);
        g_autoptr(StoreJournalInfo) info = store_journal_look(f->tree, STORE_LOCK_DOMAIN, UUID);
        g_assert_nonnull(info);
        g_assert_false(info->driven);
        g_assert_cmpstr(info->what, ==, "kind of 'x'");
        g_assert_true(recover(f, NULL, NULL));
        g_assert_cmpstr(script.trace->str, ==, rows[i].trace);
        g_assert_false(entry_stands(f));
    }
}

static void
test_last_step_may_fail(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *outcome = NULL;

    script.fails = 'd';
    g_assert_false(run(f, &loose, &error));
    g_assert_cmpstr(error->message, ==, "step d failed");
    g_assert_false(entry_stands(f));
    script.fails = 0;
    run_dying(f, &loose, 'd');
    script.fails = 'd';
    g_assert_true(recover(f, &outcome, NULL));
    g_assert_cmpstr(outcome, ==, "finished loose of 'x', but for its last step: step d failed");
    g_assert_false(entry_stands(f));
}

static void
test_driver_is_told(Fixture *f, gconstpointer unused)
{
    g_autoptr(StoreJournal) journal = begin(f, &kind, NULL);
    g_autoptr(GError) busy = NULL, second = NULL;
    g_autofree char *pid = g_strdup_printf("by pid %d (", (int) getpid());

    g_assert_null(store_journal_take(f->tree, STORE_LOCK_DOMAIN, UUID, &busy));
    g_assert_error(busy, KHO_ERROR, KHO_ERROR_BUSY);
    g_assert_nonnull(strstr(busy->message, "'web1' is busy: kind of 'x' by pid"));
    g_assert_nonnull(strstr(busy->message, pid));
    g_assert_null(begin(f, &kind, &second));
    g_assert_error(second, KHO_ERROR, KHO_ERROR_BUSY);
    g_autoptr(StoreJournalInfo) info = store_journal_look(f->tree, STORE_LOCK_DOMAIN, UUID);
    g_assert_true(info->driven);
    g_autoptr(GPtrArray) all = store_journal_list(f->tree, STORE_LOCK_DOMAIN, NULL);
    g_assert_cmpuint(all->len, ==, 1);
    g_assert_true(store_journal_end(journal, NULL));
    g_assert_null(store_journal_take(f->tree, STORE_LOCK_DOMAIN, UUID, &second));
}

/* Every command tries again what cannot be recovered now: the entry must not grow by that. */
static void
test_a_try_leaves_no_trace(Fixture *f, gconstpointer unused)
{
    g_autofree char *path = g_strdup_printf("%s/journal/qemu-" UUID ".jsonl", f->tree->lib);
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(StoreJournal) begun = begin(f, &kind, NULL);

    store_journal_free(g_steal_pointer(&begun));
    g_assert_true(g_file_get_contents(path, &before, NULL, NULL));
    for (guint i = 0; i < 3; i++) {
        StoreJournal *taken = store_journal_take(f->tree, STORE_LOCK_DOMAIN, UUID, NULL);
        g_assert_nonnull(taken);
        store_journal_free(taken);
    }
    g_assert_true(g_file_get_contents(path, &after, NULL, NULL));
    g_assert_cmpstr(after, ==, before);
    g_assert_true(recover(f, NULL, NULL));
}

/* A power failure kept the end of a line, and of its beginning the space only: what is written there later
 * does not bring it to light, however long it is. */
static void
test_torn_in_the_middle(Fixture *f, gconstpointer unused)
{
    static const char rest[] = "me\",\"mark\":\"done\"}\n";
    g_autofree char *path = g_strdup_printf("%s/journal/qemu-" UUID ".jsonl", f->tree->lib);
    g_autofree char *whole = NULL;
    gsize len;

    store_journal_free(begin(f, &kind, NULL));
    g_assert_true(g_file_get_contents(path, &whole, &len, NULL));
    gsize end = strlen(whole);
    for (gsize gap = 1; gap < 200; gap += 3) {
        g_autofree char *torn = g_malloc0(end + gap + sizeof rest);
        g_autoptr(GError) error = NULL;

        memcpy(torn, whole, end);
        memcpy(torn + end + gap, rest, sizeof rest - 1);
        g_assert_true(g_file_set_contents(path, torn, (gssize) (end + gap + sizeof rest), NULL));
        for (guint i = 0; i < 3; i++) {
            g_autoptr(StoreJournal) taken = store_journal_take(f->tree, STORE_LOCK_DOMAIN, UUID, &error);
            g_assert_no_error(error);
            g_assert_cmpint(store_journal_has(taken, "a", STORE_MARK_BEGUN), ==, i > 0);
            g_assert_true(store_journal_mark(taken, "a", STORE_MARK_BEGUN, NULL));
        }
    }
    g_assert_true(recover(f, NULL, NULL));
}

/* A power failure tears the last line at any byte: what stands before it counts. */
static void
test_torn_marks(Fixture *f, gconstpointer unused)
{
    g_autofree char *path = g_strdup_printf("%s/journal/qemu-" UUID ".jsonl", f->tree->lib);
    g_autofree char *whole = NULL;
    gsize len;

    run_dying(f, &kind, 'd');
    g_assert_true(g_file_get_contents(path, &whole, &len, NULL));
    len = strlen(whole);
    const char *head_end = strchr(whole, '\n') + 1;
    for (gsize cut = (gsize) (head_end - whole); cut <= len; cut++) {
        g_autofree char *torn = g_malloc0(len + 100);
        g_string_truncate(script.trace, 0);
        memcpy(torn, whole, cut);
        g_assert_true(g_file_set_contents(path, torn, (gssize) (cut + cut % 2 * 100), NULL));
        g_assert_true(recover(f, NULL, NULL));
        gboolean returned = g_strstr_len(torn, -1, "\"c\",\"mark\":\"begun\"}\n") != NULL;
        g_assert_cmpint(strpbrk(script.trace->str, "d") != NULL, ==, returned);
        g_assert_false(entry_stands(f));
    }
    g_assert_true(g_file_set_contents(path, whole, 20, NULL));
    g_autoptr(GError) damaged = NULL;
    g_assert_null(store_journal_take(f->tree, STORE_LOCK_DOMAIN, UUID, &damaged));
    g_assert_error(damaged, KHO_ERROR, KHO_ERROR_CORRUPT);
}

static void
test_refuses_newer(Fixture *f, gconstpointer unused)
{
    g_autofree char *path = g_strdup_printf("%s/journal/qemu-" UUID ".jsonl", f->tree->lib);
    g_autoptr(GError) newer = NULL, unknown = NULL;

    g_assert_true(g_file_set_contents(path, "{\"version\":2,\"change\":\"kind\"}\n", -1, NULL));
    g_assert_null(store_journal_take(f->tree, STORE_LOCK_DOMAIN, UUID, &newer));
    g_assert_error(newer, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
    g_assert_true(g_file_set_contents(path, "{\"version\":1,\"change\":\"other\",\"plan\":{}}\n", -1, NULL));
    g_assert_false(recover(f, NULL, &unknown));
    g_assert_error(unknown, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
    g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/store/change/" name, Fixture, NULL, set_up, function, tear_down)
    ADD("all-done", test_all_done);
    ADD("failure-takes-back", test_failure_takes_back);
    ADD("failed-undo-is-tried-again", test_failed_undo_is_tried_again);
    ADD("failure-tells-what-is-left", test_failure_tells_what_is_left);
    ADD("what-is-left-is-told-at-the-end", test_what_is_left_is_told_at_the_end);
    ADD("no-return", test_no_return);
    ADD("failure-past-no-return-stays", test_failure_past_no_return_stays);
    ADD("every-death", test_every_death);
    ADD("last-step-may-fail", test_last_step_may_fail);
    ADD("driver-is-told", test_driver_is_told);
    ADD("a-try-leaves-no-trace", test_a_try_leaves_no_trace);
    ADD("torn-marks", test_torn_marks);
    ADD("torn-in-the-middle", test_torn_in_the_middle);
    ADD("refuses-newer", test_refuses_newer);
    return g_test_run();
}
