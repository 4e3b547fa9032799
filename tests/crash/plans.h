/* What is done to which disks: the random operations and the shapes of images that the sweeps go through. */
#ifndef KHO_TESTS_PLANS_H
#define KHO_TESTS_PLANS_H

#include "crash/scenario.h"

typedef void (*RandomOp)(Scenario *s, GError **error);

/* What an operation is drawn from: a row as often as it is to come up. */
typedef struct {
    const char *verb;
    const ScenarioDisk *disks;
    gsize n_disks;
    const RandomOp *ops;
    gsize n_ops;
} Plan;

extern const Plan plan_write, plan_resize, plan_amend;

/* Single operations, for plans of other tests. */
void plan_random_write(Scenario *s, GError **error);
void plan_random_zero(Scenario *s, GError **error);
void plan_random_flush(Scenario *s, GError **error);
void plan_random_resize(Scenario *s, GError **error);
void plan_random_thick(Scenario *s, GError **error);

/* One random operation. Its failure is recorded by the oracle and reported in @error. */
void plan_step(const Plan *plan, Scenario *s, GError **error);

/* The disk's image before its first operation, filled as it says, and an oracle that knows it. */
GBytes *plan_disk_new(const ScenarioDisk *disk, Oracle **oracle);

#endif
