/* The moments of kho-vm's life at which dying makes a difference, by name: builds with tests can be stopped
 * at each of them (KHO_VM_STOP_AT=NAME) and tell them all (kho-vm --steps), so that a test can kill it there.
 * Elsewhere this is nothing. */
#ifndef KHO_SUPERVISOR_STEP_H
#define KHO_SUPERVISOR_STEP_H

typedef enum {
    STEP_START_DETACHED,
    STEP_START_PLANNED,   /* the plan is read */
    STEP_START_LOCKED,    /* both locks are held */
    STEP_START_COLLECTED, /* files, fifo and sockets are open */
    STEP_START_FORKED,    /* QEMU's process waits, nobody knows it */
    STEP_START_NAMED,     /* status.json names it, it still waits */
    STEP_START_LAUNCHED,  /* QEMU runs */
    STEP_START_GREETED,   /* its monitor answers */
    STEP_START_DESCRIBED, /* live.xml is written */
    STEP_START_RUNNING,   /* the guest runs, nobody was told */
    STEP_START_PUBLISHED, /* status.json says so */
    STEP_ADOPT_LOCKED,
    STEP_ADOPT_SERVING, /* clients are served */
    STEP_ADOPT_ASKED,   /* QEMU said what it does */
    STEP_END_BEGUN,
    STEP_END_REAPED,  /* QEMU has ended, the folder is there */
    STEP_END_REMOVED, /* the folder is gone, nobody was told */
    STEP_N
} Step;

#ifdef KHO_STEPS
void step_reach(Step step);
/* Prints their names, one a line. */
void step_print_all(void);
#else
#define step_reach(step) ((void) 0)
#endif

#endif
