/* kho-vm: one running machine's supervisor. Started by kho (vm/runtime.h), not by people. */
#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "supervisor/broker.h"
#include "supervisor/monitor.h"
#include "supervisor/output.h"
#include "supervisor/scope.h"
#include "supervisor/step.h"
#include "supervisor/supervisor.h"
#include "vm/runtime.h"

#include <glib-unix.h>
#include <signal.h>
#include <string.h>

static const char usage[] =
    "usage: kho-vm --start RUN-FOLDER   (plan on descriptor 3, answer on 4)\n"
    "       kho-vm --adopt RUN-FOLDER   (answer on descriptor 4)\n"
    "kho-vm supervises one running machine. kho starts it; there is no need to call it by hand.\n";

void
supervisor_answer(Supervisor *s, const GError *why)
{
    json_auto json_t *answer = json_object();

    if (s->answer < 0)
        return;
    if (why) {
        json_set_string(answer, "code", kho_error_code_name((KhoErrorCode) why->code));
        json_set_string(answer, "message", why->message);
    } else {
        json_object_set_new(answer, "ok", json_true());
    }
    g_autofree char *text = json_line(answer);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    fd_write_full(s->answer, line, strlen(line), "the answer", NULL); /* who asked may be gone */
    g_clear_handle_id(&s->answer_watch, g_source_remove);
    fd_clear(&s->answer);
}

/* QEMU goes on: nobody asked for the guest's end. The next command of kho's on this machine adopts it. */
static gboolean
on_signal(gpointer data)
{
    Supervisor *s = data;
    g_autoptr(GError) why = NULL;

    if (s->phase == PHASE_STARTING) {
        fail(&why, KHO_ERROR_CANCELLED, "kho-vm was told by a signal to end");
        start_fail(s, why);
    } else if (s->phase == PHASE_RUNNING) {
        vm_log(s->log, "told by a signal to end: the machine goes on, and the next kho command adopts it");
        g_main_loop_quit(s->loop);
    }
    return G_SOURCE_CONTINUE;
}

static void
watch_signals(Supervisor *s)
{
    struct sigaction ignore = { .sa_handler = SIG_IGN };

    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGHUP, &ignore, NULL);
    g_unix_signal_add(SIGTERM, on_signal, s);
    g_unix_signal_add(SIGINT, on_signal, s);
}

static Supervisor *
supervisor_new(const char *run_path, int answer)
{
    Supervisor *s = g_new0(Supervisor, 1);

    *s = (Supervisor){ .run_path = g_strdup(run_path),
                       .folder = -1,
                       .alive = -1,
                       .supervisor_lock = -1,
                       .qemu = -1,
                       .answer = answer,
                       .status = vm_status_new(),
                       .unplug = { .noted = json_array() },
                       .kept_files = g_ptr_array_new_with_free_func((GDestroyNotify) json_decref),
                       .loop = g_main_loop_new(NULL, FALSE) };
    return s;
}

/* The locks go last: until then nobody else may act for this machine. */
static void
supervisor_free(Supervisor *s)
{
    g_clear_handle_id(&s->qemu_watch, g_source_remove);
    g_clear_handle_id(&s->start_timer, g_source_remove);
    g_clear_handle_id(&s->end_timer, g_source_remove);
    g_clear_handle_id(&s->look_timer, g_source_remove);
    g_clear_handle_id(&s->answer_watch, g_source_remove);
    broker_close(s->broker);
    g_clear_pointer(&s->monitor, monitor_free);
    broker_free(s->broker);
    output_free(s->output);
    vm_log_close(s->log);
    vm_plan_free(s->plan);
    vm_status_free(s->status);
    g_clear_error(&s->start_error);
    g_ptr_array_unref(s->kept_files);
    json_decref(s->unplug.noted);
    g_free(s->guest.told_pause);
    g_free(s->guest.told_run);
    g_free(s->death.how);
    g_main_loop_unref(s->loop);
    fd_clear(&s->answer);
    fd_clear(&s->qemu);
    fd_clear(&s->alive);
    fd_clear(&s->supervisor_lock);
    fd_clear(&s->folder);
    g_free(s->run_path);
    g_free(s);
}

static int
supervise(gboolean start, const char *run_path, const char *note)
{
    g_autoptr(GError) error = NULL;
    Supervisor *s = supervisor_new(run_path, VM_RUNTIME_ANSWER_FD);
    int plan_fd = VM_RUNTIME_PLAN_FD;

    watch_signals(s);
    if (start)
        step_reach(STEP_START_DETACHED);
    gboolean begun = start ? start_begin(s, plan_fd, &error) : adopt_begin(s, &error);
    if (start)
        fd_clear(&plan_fd);
    if (begun && note && s->log)
        vm_log(s->log, "%s", note);
    if (begun && s->phase != PHASE_OVER)
        g_main_loop_run(s->loop);
    supervisor_answer(s, error);
    supervisor_free(s);
    return begun ? 0 : 1;
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *note = NULL;
    struct stat st;

    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        g_print("kho-vm " KHO_VERSION "\n");
        return 0;
    }
#ifdef KHO_STEPS
    if (argc == 2 && strcmp(argv[1], "--steps") == 0) {
        step_print_all();
        return 0;
    }
#endif
    gboolean start = argc == 3 && strcmp(argv[1], "--start") == 0;
    if ((!start && (argc != 3 || strcmp(argv[1], "--adopt") != 0)) || !g_path_is_absolute(argv[2])
        || !fd_stat(VM_RUNTIME_ANSWER_FD, &st, "descriptor 4", &error)
        || (start && !fd_stat(VM_RUNTIME_PLAN_FD, &st, "descriptor 3", &error))) {
        g_printerr("%s", usage);
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    if (scope_enter(argv, &note))
        return 0;
    if (!proc_detach(&error)) {
        g_printerr("kho-vm: %s\n", error->message);
        return 1;
    }
    return supervise(start, argv[2], note);
}
