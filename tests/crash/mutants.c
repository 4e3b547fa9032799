/* Does the sweep notice? Each rule of the crash order is broken once, in a build of the engine that can
 * (KHO_MUTANTS), and the sweeps that the tests of the verbs run must find a violation; with no rule broken
 * they must find none. */
#include "crash/datafile.h"
#include "crash/sweeps.h"
#include "luks/volume.h"
#include "qcow2/rules.h"

/* @harm: what the sweep must say, so that a mutant is not caught for another's harm: one barrier may serve
 * two rules. @verb: the one that the rule is for; NULL: any may notice. */
static const struct {
    const char *name;
    Qcow2Rule rule;
    const char *harm, *verb;
    guint in_volume; /* 1 << LuksRule: of a LUKS volume, in place of @rule */
} mutants[] = {
    { "data-before-L2", QCOW2_RULE_DATA_BEFORE_L2, "sector " },
    { "refcount-before-reference", QCOW2_RULE_REFCOUNT_BEFORE_REFERENCE, "refcount=0 reference=" },
    { "L2-before-lower", QCOW2_RULE_L2_BEFORE_LOWER, "ERROR cluster " },
    { "snapshot-before-entry", QCOW2_RULE_SNAPSHOT_BEFORE_ENTRY, "refcount=1 reference=2" },
    { "table-before-pointer", QCOW2_RULE_TABLE_BEFORE_POINTER, "bad qcow2 header" },
    { "dirty-before-deferred", QCOW2_RULE_DIRTY_BEFORE_DEFERRED, "refcount=0 reference=" },
    { "COPIED-before-raise", QCOW2_RULE_COPIED_BEFORE_RAISE, "and is marked COPIED" },
    { "one-before-COPIED", QCOW2_RULE_ONE_BEFORE_COPIED, "and is marked COPIED" },
    { "data-before-backing", QCOW2_RULE_DATA_BEFORE_BACKING, "sector ", "merge up" },
    { "name-before-pointer", QCOW2_RULE_NAME_BEFORE_POINTER, "the backing file is", "backing" },
    { "slot-before-active", QCOW2_RULE_SLOT_BEFORE_ACTIVE, "is active, and no passphrase", "keys" },
    { "inactive-before-wipe", QCOW2_RULE_INACTIVE_BEFORE_WIPE, "is active, and no passphrase", "keys" },
    { "base-before-empty", QCOW2_RULE_BASE_BEFORE_EMPTY, "under an overlay that is empty", "commit" },
    { "data-file-before-L2", QCOW2_RULE_DATA_FILE_BEFORE_L2, "sector ", "data file" },
    { "in-use-before-data", QCOW2_RULE_IN_USE_BEFORE_DATA, "bitmap calls sector", "bitmaps" },
    { "stored-before-believed", QCOW2_RULE_STORED_BEFORE_BELIEVED, "bitmap calls sector", "bitmaps" },
    { "bitmap-refcount-before-reference", QCOW2_RULE_REFCOUNT_BEFORE_REFERENCE,
      "refcount=0 reference=", "bitmaps" },
    { "bitmap-table-before-pointer", QCOW2_RULE_TABLE_BEFORE_POINTER, "bitmap", "bitmaps" },
    { "volume-slot-before-active", QCOW2_RULE_NONE, "is active, and no passphrase", "volume keys",
      1 << LUKS_SLOT_BEFORE_ACTIVE },
    { "volume-inactive-before-wipe", QCOW2_RULE_NONE, "is active, and no passphrase", "volume keys",
      1 << LUKS_INACTIVE_BEFORE_WIPE },
    { "bitmap-before-lower", QCOW2_RULE_L2_BEFORE_LOWER, "ERROR cluster ", "bitmaps" },
};

static void
sweep_writes(const CrashOptions *options, CrashReport *report)
{
    sweep_plan(&plan_write, options, report);
}

static void
sweep_resizes(const CrashOptions *options, CrashReport *report)
{
    sweep_plan(&plan_resize, options, report);
}

static const struct {
    const char *verb;
    void (*run)(const CrashOptions *options, CrashReport *report);
} sweeps[] = {
    { "write", sweep_writes },        { "resize", sweep_resizes },    { "create", sweep_create },
    { "backing", sweep_backing },     { "merge up", sweep_merge_up }, { "merge down", sweep_merge_down },
    { "rebase", sweep_merge_onto },   { "commit", sweep_commit },     { "keys", sweep_keys },
    { "data file", sweep_data_file }, { "bitmaps", sweep_bitmaps },   { "volume keys", sweep_volume_keys },
};

/* Runs the sweeps (or that of @verb alone) until one finds something; its verb, or NULL. */
static const char *
who_notices(guint rules, const char *harm, const char *verb, CrashReport *report)
{
    CrashOptions options = { .random_states = 8, .stop_at_first = TRUE, .wanted = harm };

    qcow2_mutant = rules;
    for (gsize i = 0; i < G_N_ELEMENTS(sweeps); i++) {
        if (verb && !g_str_equal(verb, sweeps[i].verb))
            continue;
        sweeps[i].run(&options, report);
        if (report->violations > 0)
            return sweeps[i].verb;
    }
    return NULL;
}

static void
test_mutant(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_auto(CrashReport) report;

    crash_report_init(&report);
    luks_volume_mutant = mutants[i].in_volume;
    const char *who = who_notices(mutants[i].rule, mutants[i].harm, mutants[i].verb, &report);
    g_test_message("%s: noticed by %s after %" G_GUINT64_FORMAT " states: %s", mutants[i].name,
                   who ? who : "nobody", report.states, report.first ? report.first : "");
    g_assert_nonnull(who);
}

static void
test_every_rule(void)
{
    guint rules = 0;

    for (gsize i = 0; i < G_N_ELEMENTS(mutants); i++)
        rules |= mutants[i].rule;
    g_assert_cmphex(rules, ==, (1u << QCOW2_RULES) - 1);
}

static void
test_control(void)
{
    g_auto(CrashReport) report;

    crash_report_init(&report);
    luks_volume_mutant = 0;
    const char *who = who_notices(QCOW2_RULE_NONE, NULL, NULL, &report);
    g_test_message("%" G_GUINT64_FORMAT " states: %s", report.states,
                   report.first ? report.first : "all sound");
    g_assert_null(who);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mutants/every-rule", test_every_rule);
    g_test_add_func("/mutants/control", test_control);
    for (gsize i = 0; i < G_N_ELEMENTS(mutants); i++) {
        g_autofree char *name = g_strdup_printf("/mutants/%s", mutants[i].name);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_mutant);
    }
    return g_test_run();
}
