/* An open qcow2 image: its state, and the formats' table of functions. What the parts of the engine say to
 * each other lives in their own headers; only qcow2/ includes this one, others use qcow2.h. Locks: `meta`
 * guards every field below it; functions that end in _locked want it held. */
#ifndef KHO_QCOW2_IMAGE_H
#define KHO_QCOW2_IMAGE_H

#include "block/cipher.h"
#include "block/format.h"
#include "qcow2/cache.h"
#include "qcow2/entry.h"
#include "qcow2/extension.h"
#include "qcow2/guard.h"
#include "qcow2/header.h"
#include "qcow2/rules.h"
#include "qcow2/words.h"

#define QCOW2_INFLATED 4 /* inflated clusters kept */

typedef struct {
    guint64 host_bytes; /* where the packed bytes start; 0: empty */
    guint64 used;       /* tick of the last use */
    guint8 *bytes;      /* one cluster */
} Qcow2Inflated;

/* Clusters whose count falls by one once nothing durable names them any more. */
typedef struct {
    guint64 first, n; /* cluster indices */
} Qcow2Lower;

/* While the disk has another size for this process than in the header (l1.h): what the header names. */
typedef struct {
    gboolean is_set;
    Qcow2Words l1;
    guint64 guest_bytes;
    guint64 file_bytes;   /* how long the file was */
    guint64 data_bytes;   /* and the data file, where there is one */
    guint64 kept, shared; /* L1 entries that are the same in both tables; then, of the next one's L2 table */
} Qcow2Held;

/* VM state on its way into a new image (state.h). */
typedef struct {
    gboolean is_set;    /* the L1 table in use is the state's */
    Qcow2Words disk_l1; /* then: the disk's */
    guint64 disk_bytes; /* then: its size */
    Qcow2Words written; /* the table of state that is whole, for the next snapshot; words NULL: none */
} Qcow2State;

typedef struct Qcow2Bitmaps Qcow2Bitmaps; /* bitmap_track.h */

typedef struct {
    FormatImage base;
    Qcow2Geometry geo; /* fixed but for l1_guest_entries and reftable_entries */

    GMutex meta;
    GCond place_gone;

    Qcow2Header header;
    Qcow2Extensions extensions;
    guint8 *head;  /* the first cluster as it is on disk */
    Qcow2Words l1; /* words NULL until needed */
    Qcow2Held held;
    Qcow2State state;
    Qcow2Words reftable; /* the same; loaded for writing only */
    Qcow2Cache cache;
    guint64 file_bytes; /* at least; asked again when a place lies past it */

    GArray *lowers;         /* of Qcow2Lower, waiting for the barrier after phase 3 */
    GQueue places;          /* of Place *: prepared, not yet committed or abandoned */
    guint place_waiters;    /* threads that wait for one of them to go */
    guint64 packed_to;      /* where the packed bytes last stored end; on a cluster's boundary: none */
    guint64 free_hint;      /* no cluster below this index is free */
    Qcow2Guard guard;       /* which clusters hold metadata; built by the first write */
    Qcow2Bitmaps *bitmaps;  /* NULL: none, or not looked at yet */
    guint references_serve; /* rules that the next barrier before references keeps beside its own */
    gboolean writing;       /* qcow2_begin_write_locked has passed */
    char *refusal;          /* why nothing may be changed any more, or NULL */
    gboolean found_corrupt; /* the next flush says so in the header, after all else */
    gboolean deferred;      /* this process set the dirty mark and holds refcounts back */
    gboolean broken;        /* a barrier failed: nothing more may be written at all */
    gboolean give_back;     /* shrinking: the space of what is freed goes back to the file system */
    gboolean moves;         /* the same, for good: something was given a new place by prepare_new */
    gboolean no_header;     /* create: the header is written last */
    gsize check_room_bytes; /* what a check of it takes for references: Qcow2Check.room_bytes */
    gboolean borrowed;      /* a snapshot's view: the file belongs to the image it was made from */

    /* Of an encrypted image (crypt.h). */
    BlkStore
        *ciphertext; /* where the guest's bytes lie: the file, or the data file, owned; NULL until then */
    SectorCipher *waiting; /* a key that came before the data file */
    SectorCipher *aes;     /* legacy encryption: NULL until it has its passphrase */
    gboolean borrowed_key; /* base.data and aes belong to the image that the view was made from */

    Qcow2Inflated inflated[QCOW2_INFLATED];
    guint64 tick;
#ifdef KHO_MUTANTS
    gboolean owes_barrier; /* a mutant skipped one */
#endif
} Qcow2Image;

static inline Qcow2Image *
qcow2_image(FormatImage *image)
{
    return (Qcow2Image *) image;
}

static inline gboolean
qcow2_lazy(const Qcow2Image *image)
{
    return (image->header.compat & QCOW2_COMPAT_LAZY_REFCOUNTS) != 0;
}

/* FormatOps.open. The tables are read when they are needed, so that asking for the headers is quick. */
FormatImage *qcow2_open(BlkStore *file, FormatFlags flags, GError **error);

/* An image in memory over @file, which it owns on success; @head is taken over too. Reads nothing. */
Qcow2Image *
qcow2_image_new(BlkStore *file, const Qcow2Header *header, guint8 *head, FormatFlags flags, GError **error);
/* Frees without writing. */
void qcow2_image_free(Qcow2Image *image);

/* Does a hole say that what lies below is to be asked, now or soon? */
static inline gboolean
qcow2_has_below(const Qcow2Image *image)
{
    return image->extensions.backing_file != NULL || image->base.gains_backing;
}

/* FormatOps.set_data: the data file, of an image that has one; read and written through base.data. */
void qcow2_set_data(FormatImage *image, BlkStore *data);
/* Has the image a data file, and is it open? */
static inline gboolean
qcow2_has_data(const Qcow2Image *image)
{
    return qcow2_has_data_file(&image->header) && image->base.data;
}
/* A data file that alone reads like the disk: what the guest sees is in it at every moment. */
static inline gboolean
qcow2_data_is_raw(const Qcow2Image *image)
{
    return qcow2_has_data_file(&image->header) && (image->header.autoclear & QCOW2_AUTOCLEAR_RAW_DATA_FILE);
}

/* snapshot.c: KHO_ERROR_UNSUPPORTED where there cannot be internal snapshots. */
gboolean qcow2_snapshots_possible(const Qcow2Image *image, GError **error);

/* Loads the L1 table. KHO_ERROR_UNSUPPORTED where the image's data cannot be reached by this version. */
gboolean qcow2_load_l1_locked(Qcow2Image *image, GError **error);
/* Loads the refcount table. */
gboolean qcow2_load_reftable_locked(Qcow2Image *image, GError **error);

/* Why nothing of the guest's is written into the image (what it names would be lost), or NULL. Free with
 * g_free. */
char *qcow2_write_refusal_locked(Qcow2Image *image);

/* Every operation that changes the image starts here. The first one builds the guard, rebuilds the refcounts
 * of a dirty image, and clears the autoclear bits, durably, but for the one that kho maintains what it
 * vouches for: a raw data file, bitmaps. KHO_ERROR_DENIED on a read-only image, _UNSUPPORTED where the data
 * is enciphered in a way that kho only reads; otherwise the reason why this image takes no writes. */
gboolean qcow2_begin_write_locked(Qcow2Image *image, GError **error);

/* What the first of them would refuse; changes nothing, and passes over the refcounts of a dirty image. */
gboolean qcow2_look_before_write_locked(Qcow2Image *image, GError **error);

/* Writes the header's fields in one piece (112 bytes, within one sector). */
gboolean qcow2_header_write_locked(Qcow2Image *image, GError **error);

/* The metadata contradict themselves: raises KHO_ERROR_CORRUPT with the image's name before the message and
 * refuses every later write; an image that is open for writing is marked so for others, too, by the next
 * flush or close. Returns FALSE. */
gboolean qcow2_corrupt_locked(Qcow2Image *image, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* TRUE when [off, off + bytes) begins within the file as it is now. */
gboolean qcow2_within_file_locked(Qcow2Image *image, guint64 off, gboolean *within, GError **error);

/* snapshot_change.c: makes each entry of the snapshot table say the sizes of its disk and its VM state, as
 * version 3 wants it; nothing changes where all do. Rules: TABLE_BEFORE_POINTER, L2_BEFORE_LOWER. */
gboolean qcow2_snapshots_complete_locked(Qcow2Image *image, GError **error);

#endif
