#include "luks/change.h"

#include "base/error.h"

static guint
count_active(const LuksHeader *header)
{
    guint n = 0;

    for (guint i = 0; i < LUKS_SLOTS; i++)
        n += luks_slot_is_active(header, i);
    return n;
}

/* A slot without a key, other than @not_this; LUKS_SLOTS: there is none. */
static guint
find_free(const LuksHeader *header, guint not_this)
{
    guint i = 0;

    while (i < LUKS_SLOTS && (luks_slot_is_active(header, i) || i == not_this))
        i++;
    return i;
}

static gboolean
check_number(gint64 slot, GError **error)
{
    return (slot >= 0 && slot < LUKS_SLOTS)
           || fail(error, KHO_ERROR_INVALID, "Invalid keyslot %u specified, must be between 0 and %u",
                   (guint) slot, LUKS_SLOTS - 1);
}

/* --- adding --- */

static gboolean
choose_slot(const LuksHeader *header, const LuksChange *change, guint *slot, GError **error)
{
    if (change->slot == LUKS_ANY_SLOT) {
        *slot = find_free(header, LUKS_SLOTS);
        return *slot < LUKS_SLOTS
               || fail(error, KHO_ERROR_INVALID, "Can't add a keyslot - all keyslots are in use");
    }
    if (!check_number(change->slot, error))
        return FALSE;
    *slot = (guint) change->slot;
    return change->force || !luks_slot_is_active(header, *slot)
           || fail(error, KHO_ERROR_INVALID,
                   "Refusing to overwrite active keyslot %u - please erase it first", *slot);
}

/* At no moment does nothing open the disk: the only active slot is replaced by way of another one. */
static gboolean
replace(const LuksPlace *place, LuksHeader *header, const LuksNewSlot *new, GError **error)
{
    LuksNewSlot stand_in = *new;
    gboolean is_only = count_active(header) == 1;

    stand_in.slot = find_free(header, new->slot);
    return (!is_only || luks_slot_add(place, header, &stand_in, error))
           && luks_slot_remove(place, header, new->slot, error) && luks_slot_add(place, header, new, error)
           && (!is_only || luks_slot_remove(place, header, stand_in.slot, error));
}

static gboolean
add(const LuksPlace *place, LuksHeader *header, const LuksChange *change, GError **error)
{
    g_auto(LuksKey) key = { .len = 0 };
    guint slot;

    if (!change->new_one)
        return fail(error, KHO_ERROR_INVALID, "'new-secret' is required to activate a keyslot");
    if (change->old)
        return fail(error, KHO_ERROR_INVALID, "'old-secret' must not be given when activating keyslots");
    if (!choose_slot(header, change, &slot, error)
        || !luks_open(place, header, *change->unlock, &key, NULL, error))
        return FALSE;
    const LuksNewSlot new = { slot, &key, *change->new_one, change->iteration_ms };
    return luks_slot_is_active(header, slot) ? replace(place, header, &new, error)
                                             : luks_slot_add(place, header, &new, error);
}

/* --- removing --- */

/* Which active slots the old passphrase opens. */
static gboolean
find_old(const LuksPlace *place, const LuksHeader *header, LuksPassphrase old, gboolean opens[LUKS_SLOTS],
         GError **error)
{
    for (guint i = 0; i < LUKS_SLOTS; i++) {
        g_auto(LuksKey) key = { .len = 0 };

        opens[i] = FALSE;
        if (luks_slot_is_active(header, i) && !luks_slot_opens(place, header, i, old, &key, &opens[i], error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
remove_one(const LuksPlace *place, LuksHeader *header, const LuksChange *change, const gboolean *opens,
           GError **error)
{
    guint slot = (guint) change->slot;

    if (!check_number(change->slot, error))
        return FALSE;
    if (change->old && !opens[slot])
        return fail(error, KHO_ERROR_DENIED,
                    "Given keyslot %u doesn't contain the given old password for erase operation", slot);
    if (!luks_slot_is_active(header, slot) && !change->force)
        return fail(error, KHO_ERROR_INVALID, "Given keyslot %u is already erased (inactive) ", slot);
    if (luks_slot_is_active(header, slot) && count_active(header) == 1 && !change->force)
        return fail(error, KHO_ERROR_INVALID,
                    "Attempt to erase the only active keyslot %u which will erase all the data in the image "
                    "irreversibly - refusing operation",
                    slot);
    return luks_slot_remove(place, header, slot, error);
}

static gboolean
remove_opened(const LuksPlace *place, LuksHeader *header, const LuksChange *change, const gboolean *opens,
              GError **error)
{
    guint n = 0;

    for (guint i = 0; i < LUKS_SLOTS; i++)
        n += opens[i];
    if (n == 0)
        return fail(error, KHO_ERROR_DENIED, "No keyslots match given (old) password for erase operation");
    if (n == count_active(header) && !change->force)
        return fail(error, KHO_ERROR_INVALID,
                    "All the active keyslots match the (old) password that was given and erasing them will "
                    "erase all the data in the image irreversibly - refusing operation");
    for (guint i = 0; i < LUKS_SLOTS; i++)
        if (opens[i] && !luks_slot_remove(place, header, i, error))
            return FALSE;
    return TRUE;
}

static gboolean
remove_slots(const LuksPlace *place, LuksHeader *header, const LuksChange *change, GError **error)
{
    gboolean opens[LUKS_SLOTS];

    if (change->new_one)
        return fail(error, KHO_ERROR_INVALID, "'new-secret' must not be given when erasing keyslots");
    if (change->slot == LUKS_ANY_SLOT && !change->old)
        return fail(error, KHO_ERROR_INVALID,
                    "To erase keyslot(s), either explicit keyslot index or the password currently contained "
                    "in them must be given");
    g_auto(LuksKey) key = { .len = 0 };
    if ((change->unlock && !luks_open(place, header, *change->unlock, &key, NULL, error))
        || (change->old && !find_old(place, header, *change->old, opens, error)))
        return FALSE;
    return change->slot == LUKS_ANY_SLOT ? remove_opened(place, header, change, opens, error)
                                         : remove_one(place, header, change, opens, error);
}

gboolean
luks_change(const LuksPlace *place, const LuksChange *change, GError **error)
{
    LuksHeader header;

    return luks_header_read(place, &header, error)
           && (change->add ? add : remove_slots)(place, &header, change, error);
}
