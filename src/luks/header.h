/* The header of LUKS version 1: its fields, what they may hold, and the cipher that they name. Decode, check
 * and derive are three steps and none of them does I/O. Keys and slots live in key.h and slot.h. Spec:
 * docs/spec/luks.md. */
#ifndef KHO_LUKS_HEADER_H
#define KHO_LUKS_HEADER_H

#include "block/cipher.h"

#define LUKS_HEADER_BYTES 592
#define LUKS_SLOTS        8
#define LUKS_SLOT_BYTES   48
#define LUKS_SLOTS_OFF    208
#define LUKS_SALT_BYTES   32
#define LUKS_DIGEST_BYTES 20
#define LUKS_STRIPES      4000
/* Where QEMU and cryptsetup begin the first slot's key material, and the unit of all that follows. */
#define LUKS_ALIGN_BYTES 4096

/* Derivations take their time on purpose: half a second a million. What a header may ask for is bounded, so
 * that one slot takes minutes at the most; ten seconds' worth on the fastest machines are a tenth of it. */
#define LUKS_ITERATIONS_MAX (1u << 28)
#define LUKS_ITERATIONS_MIN 1000

#define LUKS_SLOT_ENABLED  0x00ac71f3u
#define LUKS_SLOT_DISABLED 0x0000deadu

/* The width of each member is the width on disk. */
typedef struct {
    guint32 state; /* LUKS_SLOT_ENABLED or _DISABLED */
    guint32 iterations;
    guint8 salt[LUKS_SALT_BYTES];
    guint32 material_sector; /* from the header's start */
    guint32 stripes;
} LuksSlot;

typedef struct LuksHeader {
    guint8 magic[6];
    guint16 version;
    char cipher_name[32], cipher_mode[32], hash_name[32];
    guint32 payload_sector; /* where the data of a whole LUKS volume begins; says nothing within qcow2 */
    guint32 key_bytes;
    guint8 digest[LUKS_DIGEST_BYTES];
    guint8 digest_salt[LUKS_SALT_BYTES];
    guint32 digest_iterations;
    char uuid[40];
    LuksSlot slots[LUKS_SLOTS];
} LuksHeader;

/* What the names in a header mean. */
typedef struct {
    CipherSpec cipher;
    CryptoHash hash;
} LuksSpec;

/**
 * luks_header_decode:
 * @buf: LUKS_HEADER_BYTES
 * @room_bytes: how much there is for header and key material; every slot must lie within it
 * @header: (out): untouched on failure
 *
 * Decodes and checks every field, those of slots that are not active too, since a key may be put there.
 *
 * Returns: FALSE with KHO_ERROR_INVALID (not LUKS), _UNSUPPORTED (version, cipher, mode or hash that is not
 * known) or _CORRUPT; the message names the field and its value.
 */
gboolean luks_header_decode(const guint8 *buf, guint64 room_bytes, LuksHeader *header, GError **error);

void luks_header_encode(const LuksHeader *header, guint8 buf[LUKS_HEADER_BYTES]);

/* @header passed decode. */
void luks_header_derive(const LuksHeader *header, LuksSpec *spec);

/* A header without keys: names, places, a new uuid. */
void luks_header_init(LuksHeader *header, const LuksSpec *spec);

/* Bytes that the header and all slots of @spec take. */
guint64 luks_room_bytes(const LuksSpec *spec);
/* Bytes of one slot's key material, in whole sectors; at most 64 * 4000. */
gsize luks_material_bytes(const LuksHeader *header);

/* How the parts of a spec are called, as QEMU's options and `info` have it. */
typedef struct {
    const char *cipher, *mode, *iv, *iv_hash /* NULL: none */, *hash;
} LuksNames;

void luks_spec_names(const LuksSpec *spec, LuksNames *names);
/* What is NULL gets QEMU's defaults: aes-256, xts, plain64, sha256. KHO_ERROR_INVALID names what is unknown,
 * _UNSUPPORTED what does not go together. */
gboolean luks_spec_of_names(const LuksNames *names, LuksSpec *spec, GError **error);

#endif
