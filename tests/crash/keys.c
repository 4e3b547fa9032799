/* The sweep over changes of key slots: after a crash the passphrases that open the disk are the old ones or
 * the new ones, and no slot is active that nothing opens. */
#include "base/num.h"
#include "block/record.h"
#include "crash/sweeps.h"
#include "qcow2/crypt.h"

#include <string.h>

static const LuksPassphrase first = { "first", 5 }, second = { "second", 6 };

/* Which passphrases open the disk. */
typedef struct {
    gboolean first, second;
} Opens;

typedef struct {
    LuksChange change;
    Opens before, after;
} KeyChange;

/* NULL, or what is wrong with a header. */
static char *
look(const LuksPlace *place, const LuksHeader *header, Opens *opens)
{
    *opens = (Opens){ FALSE, FALSE };
    for (guint i = 0; i < LUKS_SLOTS; i++) {
        gboolean by_first = FALSE, by_second = FALSE;
        g_auto(LuksKey) key = { .len = 0 };
        g_autoptr(GError) error = NULL;

        if (!luks_slot_is_active(header, i))
            continue;
        if (!luks_slot_opens(place, header, i, first, &key, &by_first, &error)
            || (!by_first && !luks_slot_opens(place, header, i, second, &key, &by_second, &error)))
            return g_strdup_printf("key slot %u: %s", i, error->message);
        if (!by_first && !by_second)
            return g_strdup_printf("key slot %u is active, and no passphrase opens it", i);
        opens->first |= by_first;
        opens->second |= by_second;
    }
    return NULL;
}

static gboolean
same(Opens a, Opens b)
{
    return a.first == b.first && a.second == b.second;
}

static char *
judge_keys(const guint8 *bytes, gsize len, gboolean durable, gboolean carry_on, gpointer data)
{
    const KeyChange *change = data;
    g_autoptr(BlkStore) store = blk_mem_new(bytes, len, "state");
    g_autofree guint8 *cluster = NULL;
    g_auto(Qcow2Extensions) extensions = { 0 };
    g_autoptr(GError) error = NULL;
    Qcow2Header header;
    LuksHeader luks;
    Opens opens;
    char *found = crash_judge_check(bytes, len);

    if (found)
        return found;
    g_assert_true(qcow2_header_read(store, &header, &cluster, NULL));
    g_assert_true(
        qcow2_extensions_decode(cluster, (gsize) 1 << header.cluster_bits, &header, &extensions, NULL));
    const LuksPlace place = { .file = store,
                              .off_bytes = extensions.luks_off,
                              .room_bytes = extensions.luks_bytes };
    if (!luks_header_read(&place, &luks, &error))
        return g_strdup_printf("LUKS header: %s", error->message);
    found = look(&place, &luks, &opens);
    if (found)
        return found;
    if (same(opens, change->after) || (!durable && same(opens, change->before)))
        return NULL;
    /* Replaced by way of another slot: in between either opens it, never none. */
    if (!durable && change->change.force && (opens.first || opens.second))
        return NULL;
    return g_strdup_printf("key slots: the first passphrase opens %d, the second %d", opens.first,
                           opens.second);
}

static void
change_once(BlkStore *mem, KeyChange *change, const CrashOptions *options, CrashReport *report)
{
    g_autoptr(GPtrArray) log = blk_record_log_new();
    g_autoptr(GBytes) base = blk_mem_snapshot(mem);
    CrashOptions replaying = *options;
    g_autoptr(GError) error = NULL;
    FormatImage *image = qcow2_format.open(blk_record_new(mem, log), FORMAT_WRITABLE, &error);

    g_assert_no_error(error);
    qcow2_change_keys(image, &change->change, &error);
    g_assert_no_error(error);
    g_assert_true(image->ops->close(image, NULL));
    replaying.judge = judge_keys;
    replaying.judge_data = change;
    crash_replay(base, log, NULL, &replaying, report);
}

void
sweep_keys(const CrashOptions *options, CrashReport *report)
{
    const LuksFormat format = {
        .spec = { { CRYPTO_AES128, CRYPTO_CBC, CIPHER_IV_PLAIN64, CRYPTO_SHA256 }, CRYPTO_SHA1 },
        .iteration_ms = 1,
        .passphrase = first,
    };
    const Qcow2CreateOptions create = { .guest_bytes = 64 * KIB, .cluster_bytes = 4096, .luks = &format };
    const Opens one = { TRUE, FALSE }, both = { TRUE, TRUE }, other = { FALSE, TRUE };
    /* Slot 6 lies across two sectors. */
    KeyChange changes[] = {
        { { .add = TRUE, .slot = 6, .unlock = &first, .new_one = &second, .iteration_ms = 1 }, one, both },
        { { .slot = LUKS_ANY_SLOT, .old = &first }, both, other },
        { { .add = TRUE, .slot = LUKS_ANY_SLOT, .unlock = &second, .new_one = &first, .iteration_ms = 1 },
          other,
          both },
        { { .slot = 6 }, both, one },
        { { .add = TRUE, .slot = 0, .unlock = &first, .new_one = &second, .iteration_ms = 1, .force = TRUE },
          one,
          other },
    };
    g_autoptr(BlkStore) mem = blk_mem_new(NULL, 0, "keys");

    g_assert_true(qcow2_create(mem, &create, NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(changes); i++) {
        if (options->stop_at_first && report->violations > 0)
            return;
        change_once(mem, &changes[i], options, report);
    }
}
