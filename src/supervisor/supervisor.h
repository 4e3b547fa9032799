/* kho-vm: what its parts share. One process per running machine, one thread, one GLib main loop; it is QEMU's
 * parent and only QMP client. The parts, by noun:
 *
 *   main.c     arguments, scope, detaching, the loop, signals
 *   start.c    from a plan to a QEMU that runs        adopt.c   taking over one whose kho-vm died
 *   hello.c    the questions asked of QEMU before its guest may run
 *   monitor.c  the connection to QEMU, the heartbeat  broker.c  clients on qmp.sock
 *   client.c   one of them                            command.c what they may say
 *   guest.c    what QEMU's events mean for the state  death.c   ending QEMU, and what follows its end
 *   silence.c  a QEMU that does not answer            successor.c  who is QEMU where a script started it
 *   output.c   QEMU's stderr into the log             live.c    live.xml
 *   grant.c    files given to QEMU while it runs      unplug.c  disks that a guest lets go of late
 *
 * Nothing here blocks but the small local file operations of the run folder and the log. */
#ifndef KHO_SUPERVISOR_SUPERVISOR_H
#define KHO_SUPERVISOR_SUPERVISOR_H

#include "base/json.h"
#include "vm/log.h"
#include "vm/plan.h"
#include "vm/status.h"

typedef struct Monitor Monitor;
typedef struct Broker Broker;
typedef struct Output Output;

/* Where a kho-vm is in its life; it only goes forward. */
typedef enum {
    PHASE_STARTING, /* the starter waits for the answer; a failure ends QEMU */
    PHASE_RUNNING,
    PHASE_ENDING, /* QEMU is being ended */
    PHASE_OVER    /* QEMU has ended, the loop stops */
} Phase;

typedef struct Supervisor {
    GMainLoop *loop;
    Phase phase;
    char *run_path;
    int folder;          /* of run_path; -1 until made */
    int alive;           /* holds `alive`; -1 where only QEMU does, until its end */
    int supervisor_lock; /* holds `supervisor` */
    int answer;          /* to who started this kho-vm; -1 once answered */
    guint answer_watch;
    VmPlan *plan;     /* NULL in an adopter */
    VmStatus *status; /* what is known, always current */
    VmLog *log;       /* NULL until its path is known */

    Monitor *monitor;
    Broker *broker;
    Output *output;

    int qemu;          /* pidfd; -1 while there is none */
    gboolean is_child; /* QEMU is ours to reap */
    guint qemu_watch, start_timer, end_timer, look_timer;

    GError *start_error; /* why a start fails; answered when QEMU is gone */
    struct GuestState {
        gboolean runs;            /* by QEMU's word, whatever the state is called */
        const char *pause_reason; /* why the next STOP will be, by QEMU's event before it */
        char *told_pause,
            *told_run;          /* what a client calls the next STOP and RESUME (kho-state); NULL: none */
        gboolean restarting;    /* system_reset was sent: cont follows its RESET */
        gboolean powered_off;   /* since SHUTDOWN or GUEST_PANICKED, until RESET */
        gboolean reboot_wanted; /* the next power-off is a reboot (kho-reboot) */
        gint64 restarts_ms[6];  /* the last restarts, a ring */
        guint n_restarts;
    } guest;
    struct DeathState {
        const char *reason; /* libvirt's word for why it was ended; NULL when nobody meant it to end */
        guint stage;
        gboolean graceful;
        guint patience_ms; /* per stage */
        char *how;         /* the process that was taken for QEMU ended, for people */
    } death;
    struct UnplugState {
        json_t *noted;         /* array of {"device","nodes"} (unplug.h) */
        gboolean looks, again; /* QEMU is being asked; to be asked once more after that */
    } unplug;
    GPtrArray *kept_files; /* json_t: arguments of remove-fd, given while the guest did not run (grant.h) */
} Supervisor;

/* main.c: answers the starter, once; NULL is {"ok":true}. Stops the loop with answer_and_quit. */
void supervisor_answer(Supervisor *s, const GError *why);

/* guest.c. kho-state: what the present state is called, or the next time that it is entered. */
gboolean guest_name_state(Supervisor *s, const json_t *arguments, GError **error);
/* Sets state and reason and publishes them; logs a change. */
void guest_set_state(Supervisor *s, const char *state, const char *reason);
/* An event of QEMU's, before the clients see it. */
void guest_event(Supervisor *s, const char *event, const json_t *data);
/* What QEMU says of itself after an adoption: its word of query-status. */
void guest_reconcile(Supervisor *s, const char *qemu_state);
void guest_publish(Supervisor *s);

/* start.c, adopt.c: FALSE with @error when there is nothing to run the loop for. */
gboolean start_begin(Supervisor *s, int plan_fd, GError **error);
gboolean adopt_begin(Supervisor *s, GError **error);
/* A start that cannot go on: ends QEMU; the answer follows its end. */
void start_fail(Supervisor *s, const GError *why);

/* hello.c: begins when the monitor is ready. */
void hello_begin(Supervisor *s);

/* live.c: the live XML with what QEMU chose. @chardevs and @vnc are the answers of query-chardev and
 * query-vnc. */
char *live_xml_complete(const char *xml, const json_t *chardevs, const json_t *vnc, GError **error);
/* kho-live-xml: writes another live XML of the same machine. */
gboolean live_xml_replace(Supervisor *s, const json_t *arguments, GError **error);
/* Takes the disk of that alias out of it; TRUE where it has none. */
gboolean live_xml_drop_disk(Supervisor *s, const char *alias, GError **error);

/* death.c. Watches s->qemu from here on. */
void death_watch(Supervisor *s);
/* Ends QEMU by `quit`, then SIGTERM, then (unless @graceful) SIGKILL, each with its part of @timeout_ms.
 * @reason is told in the log: "destroyed", "shutdown", "crashed", "failed". */
void death_begin(Supervisor *s, const char *reason, gboolean graceful, guint timeout_ms);

#endif
