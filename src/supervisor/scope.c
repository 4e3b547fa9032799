#include "supervisor/scope.h"

#include "base/error.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "base/spawn.h"
#include "vm/runtime.h"

#include <string.h>
#include <unistd.h>

/* Set for the process in the scope. */
#define SCOPED_VARIABLE "KHO_VM_SCOPED"
/* systemd answers in milliseconds, or is not well. */
#define SCOPE_TIMEOUT_MS 8000
#define NAME_MAX_BYTES   100

static const char *
runner(void)
{
    const char *named = g_getenv("KHO_SYSTEMD_RUN");

    if (named && *named)
        return strcmp(named, "no") == 0 ? NULL : named;
    return g_file_test("/run/systemd/system", G_FILE_TEST_IS_DIR) ? "systemd-run" : NULL;
}

/* "kho-NAME-PID.scope", escaped as systemd does it. */
static char *
unit_name(const char *run_path)
{
    g_autofree char *name = g_path_get_basename(run_path);
    g_autoptr(GString) unit = g_string_new("kho-");

    for (const char *c = name; *c && unit->len < NAME_MAX_BYTES; c++) {
        if (g_ascii_isalnum(*c) || *c == '_' || *c == '.')
            g_string_append_c(unit, *c);
        else
            g_string_append_printf(unit, "\\x%02x", (guchar) *c);
    }
    g_string_append_printf(unit, "-%d.scope", (int) proc_own_pid());
    return g_string_free(g_steal_pointer(&unit), FALSE);
}

static gboolean
run_in_scope(const char *program, char **argv, GError **error)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) env = g_environ_setenv(g_get_environ(), SCOPED_VARIABLE, "1", TRUE);
    g_autofree char *own = proc_own_program(error);
    g_autofree char *unit = unit_name(argv[2]);
    SpawnResult result = { 0 };

    if (!own)
        return FALSE;
    g_ptr_array_add(words, g_strdup(program));
    g_ptr_array_add(words, g_strdup(geteuid() == 0 ? "--slice=machine.slice" : "--user"));
    g_ptr_array_add(words, g_strdup("--scope"));
    g_ptr_array_add(words, g_strdup("--collect"));
    g_ptr_array_add(words, g_strdup("--quiet"));
    g_ptr_array_add(words, g_strdup_printf("--unit=%s", unit));
    g_ptr_array_add(words, g_strdup("--"));
    g_ptr_array_add(words, g_steal_pointer(&own));
    for (char **arg = argv + 1; *arg; arg++)
        g_ptr_array_add(words, g_strdup(*arg));
    g_ptr_array_add(words, NULL);

    SpawnFd fds[] = { { VM_RUNTIME_ANSWER_FD, VM_RUNTIME_ANSWER_FD },
                      { VM_RUNTIME_PLAN_FD, VM_RUNTIME_PLAN_FD } };
    SpawnSpec spec = { .argv = (const char *const *) words->pdata,
                       .env = (const char *const *) env,
                       .fds = fds,
                       .n_fds = strcmp(argv[1], "--start") == 0 ? 2 : 1 };
    if (!spawn_run(&spec, deadline_in(SCOPE_TIMEOUT_MS), &result, error))
        return FALSE;
    g_autofree char *how = proc_status_text(result.status);
    g_autofree char *said = error_one_line(result.err);
    gboolean done = result.status == 0;
    spawn_result_clear(&result);
    return done || fail(error, KHO_ERROR_UNSUPPORTED, "%s: %s: %s", program, how, said);
}

gboolean
scope_enter(char **argv, char **note)
{
    const char *program = g_getenv(SCOPED_VARIABLE) ? NULL : runner();
    g_autoptr(GError) why = NULL;

    g_unsetenv(SCOPED_VARIABLE); /* not for QEMU */
    *note = NULL;
    if (!program)
        return FALSE;
    if (run_in_scope(program, argv, &why))
        return TRUE;
    *note = g_strdup_printf(
        "no scope of its own, so the machine may end with the login it was started from: %s", why->message);
    return FALSE;
}
