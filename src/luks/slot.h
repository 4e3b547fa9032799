/* LUKS headers and their key slots within a store: reading, opening, making, and the order of what is
 * written. A slot is whole and durable before it is active, and durably inactive before it is wiped, so that
 * a crash leaves what was or what shall be. Nothing here decides which slot may go: that is the caller's.
 * Spec: docs/spec/luks.md. */
#ifndef KHO_LUKS_SLOT_H
#define KHO_LUKS_SLOT_H

#include "block/blk.h"
#include "luks/key.h"

typedef enum {
    LUKS_SLOT_BEFORE_ACTIVE, /* key material, salt and iterations are durable before the slot is active */
    LUKS_INACTIVE_BEFORE_WIPE,
    LUKS_CHANGE_DURABLE, /* for the caller's sake */
} LuksRule;

/* Where a header lies, and how what was written becomes durable. */
typedef struct {
    BlkStore *file;
    guint64 off_bytes, room_bytes;
    gboolean (*barrier)(LuksRule rule, gpointer data, GError **error); /* may be NULL for reading */
    gpointer data;
} LuksPlace;

gboolean luks_header_read(const LuksPlace *place, LuksHeader *header, GError **error);

/* Tries every active slot, which takes its time. KHO_ERROR_DENIED where none opens. *slot may be NULL. */
gboolean luks_open(const LuksPlace *place, const LuksHeader *header, LuksPassphrase passphrase, LuksKey *key,
                   guint *slot, GError **error);
/* Does @passphrase open this slot? */
gboolean luks_slot_opens(const LuksPlace *place, const LuksHeader *header, guint slot,
                         LuksPassphrase passphrase, LuksKey *key, gboolean *opens, GError **error);

typedef struct {
    LuksSpec spec;
    guint64 iteration_ms; /* how long one derivation shall take */
    LuksPassphrase passphrase;
} LuksFormat;

/* Makes a header with a new key, which *key is set to, and one slot. The place has luks_room_bytes, and reads
 * as zeros. */
gboolean luks_format(const LuksPlace *place, const LuksFormat *format, LuksKey *key, GError **error);

/* Puts @key under @passphrase into a slot that is not active, and updates *header. */
typedef struct {
    guint slot;
    const LuksKey *key;
    LuksPassphrase passphrase;
    guint64 iteration_ms;
} LuksNewSlot;
gboolean luks_slot_add(const LuksPlace *place, LuksHeader *header, const LuksNewSlot *slot, GError **error);
/* Makes a slot inactive, then overwrites its key material. */
gboolean luks_slot_remove(const LuksPlace *place, LuksHeader *header, guint slot, GError **error);

static inline gboolean
luks_slot_is_active(const LuksHeader *header, guint slot)
{
    return header->slots[slot].state == LUKS_SLOT_ENABLED;
}

#endif
