/* Drives what changes a running machine from a test, as its drivers do: `kho-drive RUN-FOLDER`, commands on
 * stdin, words quoted as in a shell, one answer line each on stdout. SIGUSR1 cancels what is under way.
 *
 *   begin COMMAND ID JSON     wait ready|pending ID...      complete ID      finish ID...    cancel ID...
 *   look ID                   flush NODE [DISCARD]          nodes DEVICE
 *   merge copy|finish|cancel|look JSON    with the members of VmMerge
 *   migrate PATH OFFSET       unmigrate
 *
 * Answers "ok", "ok VALUE" or "error CODE MESSAGE", before that "progress DONE TOTAL" any number of times.
 * Ends at the end of stdin. */
#include "vm/job.h"
#include "vm/merge.h"
#include "vm/migrate.h"
#include "vm/nodes.h"

#include <kho/error.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile gint cancelled;

static void
on_signal(int number)
{
    g_atomic_int_set(&cancelled, 1);
}

static void
on_progress(guint64 done, guint64 total, gpointer data)
{
    printf("progress %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "\n", done, total);
    fflush(stdout);
}

static gboolean
do_begin(VmClient *client, char **words, GError **error)
{
    json_t *arguments = json_parse(words[3], strlen(words[3]), "the arguments", error);

    return arguments && vm_job_begin(client, words[1], words[2], arguments, error);
}

static char *
do_look(VmClient *client, const char *id, GError **error)
{
    static const char *const states[] = { "absent", "working", "ready", "pending", "concluded" };
    VmJobState state;

    return vm_job_look(client, id, &state, error) ? g_strdup(states[state]) : NULL;
}

static char *
do_nodes(VmClient *client, const char *device, GError **error)
{
    g_autoptr(GPtrArray) nodes = vm_nodes_of_device(client, device, error);
    g_autoptr(GString) line = g_string_new(NULL);

    for (guint i = 0; nodes && i < nodes->len; i++)
        g_string_append_printf(line, "%s%s", i ? " " : "", ((VmNode *) nodes->pdata[i])->node);
    return nodes ? g_string_free(g_steal_pointer(&line), FALSE) : NULL;
}

static char *
do_merge(VmClient *client, char **words, GError **error)
{
    const KhoJob job = { .progress = on_progress, .cancelled = &cancelled };
    json_auto json_t *json = json_parse(words[2], strlen(words[2]), "the merge", error);
    VmMergeState state;

    if (!json)
        return NULL;
    const VmMerge merge = {
        .job = json_string_or(json, "job", "m"),
        .device = json_string_or(json, "device", NULL),
        .discard = json_string_or(json, "discard", NULL),
        .down = json_is_true(json_object_get(json, "down")),
        .upper = json_string_or(json, "upper", NULL),
        .lower = json_string_or(json, "lower", NULL),
        .upper_path = json_string_or(json, "upper-path", NULL),
        .lower_path = json_string_or(json, "lower-path", NULL),
        .above_path = json_string_or(json, "above-path", NULL),
        .backing_name = json_string_or(json, "backing-name", NULL),
    };
    if (strcmp(words[1], "look") == 0)
        return !vm_merge_look(client, &merge, &state, error) ? NULL
                                                             : g_strdup(state == VM_MERGE_APART    ? "apart"
                                                                        : state == VM_MERGE_MERGED ? "merged"
                                                                                                   : "gone");
    gboolean done = strcmp(words[1], "copy") == 0     ? vm_merge_copy(client, &merge, &job, error)
                    : strcmp(words[1], "finish") == 0 ? vm_merge_finish(client, &merge, error)
                                                      : vm_merge_cancel(client, &merge, error);
    return done ? g_strdup("done") : NULL;
}

static gboolean
run(VmClient *client, char **words, char **answer, GError **error)
{
    const KhoJob job = { .progress = on_progress, .cancelled = &cancelled };
    const char *verb = words[0];
    const char *const *ids = (const char *const *) words + 1;
    guint n = g_strv_length(words);

    if (strcmp(verb, "begin") == 0 && n == 4)
        return do_begin(client, words, error);
    if (strcmp(verb, "wait") == 0 && n > 2)
        return vm_jobs_wait(client, ids + 1, strcmp(words[1], "ready") == 0 ? VM_JOB_READY : VM_JOB_PENDING,
                            FALSE, &job, error);
    if (strcmp(verb, "complete") == 0 && n == 2)
        return vm_job_complete(client, words[1], error);
    if (strcmp(verb, "finish") == 0 && n > 1)
        return vm_jobs_finish(client, ids, error);
    if (strcmp(verb, "cancel") == 0 && n > 1)
        return vm_jobs_cancel(client, ids, error);
    if (strcmp(verb, "migrate") == 0 && n == 3)
        return vm_migrate_out(client, words[1], g_ascii_strtoull(words[2], NULL, 10), &job, error);
    if (strcmp(verb, "unmigrate") == 0)
        return vm_migrate_cancel(client, error);
    if (strcmp(verb, "flush") == 0 && n > 1)
        return vm_node_flush(client, words[1], words[2], error);
    if (strcmp(verb, "look") == 0 && n == 2)
        *answer = do_look(client, words[1], error);
    else if (strcmp(verb, "nodes") == 0 && n == 2)
        *answer = do_nodes(client, words[1], error);
    else if (strcmp(verb, "merge") == 0 && n == 3)
        *answer = do_merge(client, words, error);
    else
        g_set_error_literal(error, KHO_ERROR, KHO_ERROR_INVALID, "no such command");
    return *answer != NULL;
}

static void
run_line(VmClient *client, const char *line)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *answer = NULL;
    g_auto(GStrv) words = NULL;

    if (g_shell_parse_argv(line, NULL, &words, &error) && run(client, words, &answer, &error))
        printf("ok%s%s\n", answer ? " " : "", answer ? answer : "");
    else
        printf("error %s %s\n", kho_error_code_name((KhoErrorCode) error->code), error->message);
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    g_autoptr(GError) error = NULL;
    char line[65536];

    sigaction(SIGUSR1, &action, NULL);
    g_autoptr(VmClient) client = argc == 2 ? vm_client_open(argv[1], 10000, &error) : NULL;
    if (!client) {
        fprintf(stderr, "usage: kho-drive RUN-FOLDER: %s\n", error ? error->message : "");
        return 1;
    }
    while (fgets(line, sizeof line, stdin)) {
        g_atomic_int_set(&cancelled, 0);
        run_line(client, line);
    }
    return 0;
}
