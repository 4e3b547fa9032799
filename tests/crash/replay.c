#include "crash/replay.h"

#include "base/num.h"
#include "block/record.h"
#include "crash/guest.h"
#include "qcow2/header.h"

#include <string.h>

#define ALL_SUBSETS_MAX 5 /* events between two flushes whose subsets are all tried: 32 */

/* Every state lives in new memory: with the sanitizer's usual quarantine most of the time would go into page
 * faults. */
const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
    return "quarantine_size_mb=4";
}

/* States judged by writing to them as well: one in so many. */
#define CARRY_ON_EVERY 8

typedef struct {
    guint8 *bytes;
    gsize len, room;
} Disk;

static void
disk_clear(Disk *disk)
{
    g_free(disk->bytes);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Disk, disk_clear)

static void
disk_resize(Disk *disk, gsize len)
{
    if (len > disk->room) {
        disk->room = MAX(len, disk->room * 2);
        disk->bytes = g_realloc(disk->bytes, disk->room);
    }
    if (len > disk->len) /* memset takes no NULL, not even for nothing */
        memset(disk->bytes + disk->len, 0, len - disk->len);
    disk->len = len;
}

static void
disk_copy(Disk *to, const Disk *from)
{
    to->len = 0;
    disk_resize(to, from->len);
    if (from->len > 0)
        memcpy(to->bytes, from->bytes, from->len);
}

/* The part [from, to) of a write or zero; for a truncate, all of it. */
static void
apply_part(Disk *disk, const BlkEvent *event, guint64 from, guint64 to)
{
    if (event->kind == BLK_EVENT_TRUNCATE) {
        disk_resize(disk, event->off);
        return;
    }
    if (to > disk->len)
        disk_resize(disk, to);
    if (event->kind == BLK_EVENT_WRITE)
        memcpy(disk->bytes + from, event->bytes + (from - event->off), to - from);
    else
        memset(disk->bytes + from, 0, to - from);
}

static void
apply(Disk *disk, const BlkEvent *event)
{
    if (event->kind != BLK_EVENT_FLUSH)
        apply_part(disk, event, event->off, event->off + event->len);
}

/* Sectors of the event that reached the disk, each by a coin. */
static void
apply_torn(Disk *disk, const BlkEvent *event, GRand *rand)
{
    guint64 end = event->off + event->len;

    for (guint64 at = event->off; at < end;) {
        guint64 next = MIN(num_align_down(at, SECTOR) + SECTOR, end);
        if (g_rand_boolean(rand))
            apply_part(disk, event, at, next);
        at = next;
    }
}

/* FNV-1a over words; the length counts too. Nothing else in a sweep goes over so many bytes, and they are the
 * sweep's own: the sanitizers need not watch each of them. */
__attribute__((noinline, no_sanitize("address", "undefined"))) static guint64
hash_of(const Disk *disk)
{
    guint64 hash = G_GUINT64_CONSTANT(0xcbf29ce484222325) ^ disk->len, word;
    gsize i = 0;

    for (; i + 8 <= disk->len; i += 8) {
        memcpy(&word, disk->bytes + i, 8);
        hash = (hash ^ word) * G_GUINT64_CONSTANT(0x100000001b3);
        hash ^= hash >> 29;
    }
    for (; i < disk->len; i++)
        hash = (hash ^ disk->bytes[i]) * G_GUINT64_CONSTANT(0x100000001b3);
    return hash;
}

void
crash_report_init(CrashReport *report)
{
    *report = (CrashReport){ .distinct = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL) };
}

void
crash_report_clear(CrashReport *report)
{
    g_hash_table_unref(report->distinct);
    g_free(report->first);
}

/* One stretch between two flushes: events [from, to) on top of what is durable. */
typedef struct {
    const GPtrArray *log;
    guint from, to;
    const Disk *durable;
    const OracleView *view;
    const CrashOptions *options;
    CrashReport *report;
    GHashTable *seen; /* hashes judged in this stretch */
    Disk *state;
} Stretch;

static gboolean
enough(const Stretch *stretch)
{
    return stretch->options->stop_at_first && stretch->report->violations > 0;
}

static char *
judge(const Stretch *stretch, gboolean carry_on)
{
    const CrashOptions *options = stretch->options;
    const Disk *state = stretch->state;
    gboolean durable = stretch->from >= stretch->log->len;

    return options->judge ? options->judge(state->bytes, state->len, durable, carry_on, options->judge_data)
                          : crash_judge(state->bytes, state->len, stretch->view, carry_on);
}

static void
judge_state(Stretch *stretch, const char *how, guint64 detail)
{
    guint64 hash = hash_of(stretch->state);
    CrashReport *report = stretch->report;
    gboolean nothing_yet = stretch->options->may_be_nothing && stretch->view->durable_op < 0
                           && (stretch->state->len < 4 || be32_load(stretch->state->bytes) != QCOW2_MAGIC);

    if (!g_hash_table_add(stretch->seen, g_memdup2(&hash, sizeof hash)))
        return;
    report->states++;
    g_hash_table_add(report->distinct, g_memdup2(&hash, sizeof hash));
    g_autofree char *found = nothing_yet ? NULL : judge(stretch, hash % CARRY_ON_EVERY == 0);
    if (!found || (stretch->options->wanted && !strstr(found, stretch->options->wanted)))
        return;
    report->violations++;
    if (!report->first)
        report->first = g_strdup_printf("events %u to %u, %s %" G_GUINT64_FORMAT ": %s", stretch->from,
                                        stretch->to, how, detail, found);
}

static void
try_prefixes(Stretch *stretch)
{
    disk_copy(stretch->state, stretch->durable);
    judge_state(stretch, "prefix", 0);
    for (guint i = stretch->from; i < stretch->to && !enough(stretch); i++) {
        apply(stretch->state, stretch->log->pdata[i]);
        judge_state(stretch, "prefix", i - stretch->from + 1);
    }
}

static void
try_all_subsets(Stretch *stretch)
{
    guint n = stretch->to - stretch->from;

    for (guint64 mask = 0; mask < G_GUINT64_CONSTANT(1) << n && !enough(stretch); mask++) {
        disk_copy(stretch->state, stretch->durable);
        for (guint i = 0; i < n; i++)
            if (mask >> i & 1)
                apply(stretch->state, stretch->log->pdata[stretch->from + i]);
        judge_state(stretch, "subset", mask);
    }
}

/* Each event whole, torn or not at all. What is rare in a fair throw is what finds faults: most there and one
 * missing, or the reverse; so the odds are thrown first. */
static void
try_random(Stretch *stretch, guint64 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32) seed);
    gdouble whole = (gdouble[]){ 0.5, 0.1, 0.9, 0.75 }[g_rand_int_range(rand, 0, 4)];
    gdouble torn = (gdouble[]){ 0, 0.2, 0.5 }[g_rand_int_range(rand, 0, 3)];

    disk_copy(stretch->state, stretch->durable);
    for (guint i = stretch->from; i < stretch->to; i++) {
        if (g_rand_double(rand) < torn)
            apply_torn(stretch->state, stretch->log->pdata[i], rand);
        else if (g_rand_double(rand) < whole)
            apply(stretch->state, stretch->log->pdata[i]);
    }
    judge_state(stretch, "seed", seed);
}

static void
replay_stretch(Stretch *stretch)
{
    guint n = stretch->to - stretch->from;

    try_prefixes(stretch);
    if (n <= ALL_SUBSETS_MAX)
        try_all_subsets(stretch);
    for (guint i = 0; n > 0 && i < stretch->options->random_states && !enough(stretch); i++)
        try_random(stretch, (guint64) stretch->from * 1000003 + i);
}

void
crash_replay(GBytes *base, const GPtrArray *log, const Oracle *oracle, const CrashOptions *options,
             CrashReport *report)
{
    g_auto(Disk) durable = { 0 }, state = { 0 };
    gsize len;
    const guint8 *bytes = g_bytes_get_data(base, &len);

    disk_resize(&durable, len);
    if (len > 0)
        memcpy(durable.bytes, bytes, len);
    for (guint from = 0, to; from <= log->len; from = to + 1) {
        g_auto(OracleView) view = { 0 };
        for (to = from; to < log->len && ((BlkEvent *) log->pdata[to])->kind != BLK_EVENT_FLUSH;)
            to++;
        if (options->only_last && to < log->len) {
            for (guint i = from; i < to; i++)
                apply(&durable, log->pdata[i]);
            continue;
        }
        if (oracle)
            oracle_view_at(oracle, to, &view);
        g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
        Stretch stretch = { .log = log,
                            .from = from,
                            .to = to,
                            .durable = &durable,
                            .view = &view,
                            .options = options,
                            .report = report,
                            .seen = seen,
                            .state = &state };
        replay_stretch(&stretch);
        if (enough(&stretch))
            return;
        for (guint i = from; i < to; i++)
            apply(&durable, log->pdata[i]);
    }
}
