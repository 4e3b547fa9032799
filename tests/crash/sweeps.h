/* The sweeps: for each verb, disks of many shapes, random operations on them, recorded and replayed. The
 * tests of the verbs and the mutants run the same ones. */
#ifndef KHO_TESTS_SWEEPS_H
#define KHO_TESTS_SWEEPS_H

#include "block/fault.h"
#include "crash/plans.h"
#include "crash/replay.h"

void sweep_create(const CrashOptions *options, CrashReport *report);
void sweep_plan(const Plan *plan, const CrashOptions *options, CrashReport *report);

void sweep_merge_up(const CrashOptions *options, CrashReport *report);
void sweep_merge_down(const CrashOptions *options, CrashReport *report);
void sweep_bitmaps(const CrashOptions *options, CrashReport *report);
/* The same deeds on a store whose n-th write or flush fails, for every n. */
void fault_bitmaps(FaultKind kind, gboolean for_ever);
void sweep_keys(const CrashOptions *options, CrashReport *report);
void sweep_volume_keys(const CrashOptions *options, CrashReport *report);
void sweep_merge_onto(const CrashOptions *options, CrashReport *report);
/* The overlay's states, the base's, and which of both is written when. */
void sweep_commit(const CrashOptions *options, CrashReport *report);
void sweep_backing(const CrashOptions *options, CrashReport *report);

/* KHO_SOAK=1 asks for this many times the states. */
guint sweep_factor(void);

/* Asserts no violation and at least @least distinct states; prints the figures under @verb's name. */
void sweep_assert(const char *verb, const CrashReport *report, guint least);

#endif
