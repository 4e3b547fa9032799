/* The crash-order rules: what must be durable before what. Every barrier of the engine names the rules that
 * it serves; a build with -DKHO_MUTANTS can break any one of them, and the sweeps of tests/crash must notice.
 * A leaked cluster is acceptable after a crash, a reference to a free one never is.
 * Spec: docs/spec/qcow2.md, section 8. */
#ifndef KHO_QCOW2_RULES_H
#define KHO_QCOW2_RULES_H

#include <glib.h>

typedef enum {
    QCOW2_RULE_NONE = 0, /* durability for the caller's sake, no order within the image */
    /* Guest data is durable before an L2 entry names it: else the guest reads garbage. */
    QCOW2_RULE_DATA_BEFORE_L2 = 1 << 0,
    /* A raised refcount is durable before an L2, L1 or snapshot entry names the cluster. */
    QCOW2_RULE_REFCOUNT_BEFORE_REFERENCE = 1 << 1,
    /* A cleared or replaced L2 entry is durable before the refcount of what it named is lowered. */
    QCOW2_RULE_L2_BEFORE_LOWER = 1 << 2,
    /* A snapshot's L1 copy and refcounts are durable before its table entry, and that before the header's
       count. */
    QCOW2_RULE_SNAPSHOT_BEFORE_ENTRY = 1 << 3,
    /* A new table is durable before the header (or the refcount table) points at it. */
    QCOW2_RULE_TABLE_BEFORE_POINTER = 1 << 4,
    /* The dirty mark is durable before the first refcount update is deferred. */
    QCOW2_RULE_DIRTY_BEFORE_DEFERRED = 1 << 5,
    /* COPIED is cleared before the refcount rises above 1: else a write in place changes a snapshot. */
    QCOW2_RULE_COPIED_BEFORE_RAISE = 1 << 6,
    /* The refcount has fallen to 1 before COPIED is set again. */
    QCOW2_RULE_ONE_BEFORE_COPIED = 1 << 7,
    /* What an image was made to hold is durable before its header lets the backing file go that held it. */
    QCOW2_RULE_DATA_BEFORE_BACKING = 1 << 8,
    /* The parts of a new header that lie behind its first sector are durable before that sector. */
    QCOW2_RULE_NAME_BEFORE_POINTER = 1 << 9,
    /* A key slot of a LUKS header is whole and durable before it is active: else no passphrase opens it. */
    QCOW2_RULE_SLOT_BEFORE_ACTIVE = 1 << 10,
    /* A key slot is durably inactive before its key material is overwritten: the same. */
    QCOW2_RULE_INACTIVE_BEFORE_WIPE = 1 << 11,
    /* What an overlay held is durable in its base before the overlay lets go of it (image/merge.c). */
    QCOW2_RULE_BASE_BEFORE_EMPTY = 1 << 12,
    /* Guest data in a file of its own is durable before an L2 entry names it, or a longer disk shows it. */
    QCOW2_RULE_DATA_FILE_BEFORE_L2 = 1 << 13,
    /* The in-use flag of a bitmap is durable before the guest data that it does not tell of yet: else a crash
       leaves a bitmap that calls changed parts clean. */
    QCOW2_RULE_IN_USE_BEFORE_DATA = 1 << 14,
    /* A bitmap's contents are durable, and named, before its in-use flag goes: the same. */
    QCOW2_RULE_STORED_BEFORE_BELIEVED = 1 << 15,
} Qcow2Rule;

#define QCOW2_RULES 16

#ifdef KHO_MUTANTS
/* The rules that this run breaks; set by the test before it opens an image. */
extern guint qcow2_mutant;
#define qcow2_mutated(rule) ((qcow2_mutant & (rule)) != 0)
#else
#define qcow2_mutated(rule) FALSE
#endif

#endif
