/* Crash replay: from a recorded log, the states in which a power cut could have left the store, each judged.
 * Between two flushes writes may reach the disk in any order and in part: every prefix, subsets, and writes
 * torn at sectors. */
#ifndef KHO_TESTS_REPLAY_H
#define KHO_TESTS_REPLAY_H

#include "block/format.h"
#include "crash/oracle.h"

typedef struct {
    guint64 states;       /* judged */
    GHashTable *distinct; /* guint64 hashes of their contents */
    guint64 violations;
    char *first; /* the first violation, or NULL */
} CrashReport;

void crash_report_init(CrashReport *report);
void crash_report_clear(CrashReport *report);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CrashReport, crash_report_clear)

/* Judges one state instead of crash_judge: NULL, or what is wrong. @durable: everything in the log has
 * reached the disk. */
typedef char *(*CrashJudge)(const guint8 *bytes, gsize len, gboolean durable, gboolean carry_on,
                            gpointer data);

typedef struct {
    guint random_states;    /* for each stretch between flushes that has too many subsets for all of them */
    gboolean stop_at_first; /* one violation is enough (mutants) */
    const char *wanted;     /* only violations whose text contains this count (mutants); NULL: all */
    gboolean only_last;     /* what follows the last flush of the log (fault sweeps: after the fault) */
    gboolean
        may_be_nothing; /* until the first durable operation it need not be a qcow2 image at all (create) */
    CrashJudge judge;   /* NULL: crash_judge with the oracle */
    gpointer judge_data;
} CrashOptions;

/* @base: the store before the first event of @log; @oracle: NULL where a judge of its own is given. Seeds its
 * choices from the contents alone: a run repeats.
 */
void crash_replay(GBytes *base, const GPtrArray *log, const Oracle *oracle, const CrashOptions *options,
                  CrashReport *report);

/* Judges one state. Returns NULL, or what is wrong. The image must check without corruptions (after the
 * recovery that its dirty mark asks for), hold what @view says, its snapshots exactly; and with @carry_on it
 * must take further writes, a snapshot and its deletion. */
/* The check alone: only what the crash rules allow to be left. A dirty image is not looked at. */
char *crash_judge_check(const guint8 *bytes, gsize len);

char *crash_judge(const guint8 *bytes, gsize len, const OracleView *view, gboolean carry_on);

#endif
