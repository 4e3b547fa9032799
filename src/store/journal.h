/* The journal: what is being changed across several files, decided and durable before the first effect, so
 * that whoever finds it can finish the change or take it back. Here lives one entry as a file: its plan, its
 * marks, who drives it. What the steps do and in which order they run is change.h's. */
#ifndef KHO_STORE_JOURNAL_H
#define KHO_STORE_JOURNAL_H

#include "base/json.h"
#include "store/tree.h"

#define STORE_JOURNAL_VERSION 1
/* No entry is larger: a plan holds a few definitions of 4 MiB each and some paths for every disk. */
#define STORE_JOURNAL_MAX_BYTES (64 << 20)

/* An entry that this process drives: nobody else does meanwhile. */
typedef struct StoreJournal StoreJournal;

typedef enum {
    STORE_MARK_BEGUN, /* the step may have had effects */
    STORE_MARK_DONE,  /* the step is done, and what it did is durable */
} StoreMark;

/* What an entry says, for those who do not drive it. */
typedef struct StoreJournalInfo {
    char *object_kind, *uuid, *name; /* of the object */
    char *change;                    /* "snapshot-create", ... */
    char *what;                      /* for people: "snapshot-create of 's1'" */
    gint64 since_ms;                 /* wall clock */
    gint64 pid;                      /* of who began it */
    char *command;
    gboolean driven; /* somebody holds it right now */
    json_t *plan;    /* all that the change needs */
    GError *why;     /* it cannot be read, and only kind and uuid are known; else NULL */
} StoreJournalInfo;

void store_journal_info_free(StoreJournalInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreJournalInfo, store_journal_info_free)

/* What an entry begins with; all borrowed. */
typedef struct StoreJournalPlan {
    const char *uuid, *name; /* of the object, whose change lock the caller holds */
    const char *change;      /* the kind of change */
    const char *what;        /* for people */
    const json_t *plan;      /* all that the change will need: an object */
} StoreJournalPlan;

/**
 * store_journal_begin:
 * @kind: STORE_LOCK_DOMAIN, ...: the object's
 *
 * Writes the entry's first line and makes it durable; from here on the change will be finished or taken back.
 *
 * Returns: NULL with KHO_ERROR_BUSY where an entry of that object stands, _NO_SPACE, _DENIED, _IO; no entry
 * is left then.
 */
StoreJournal *
store_journal_begin(const StoreTree *tree, const char *kind, const StoreJournalPlan *plan, GError **error);

/**
 * store_journal_take:
 *
 * Takes over the entry of an object whose driver died. NULL without @error where there is no entry (or the
 * driver ended it just now); NULL with KHO_ERROR_BUSY naming who drives it, _UNSUPPORTED where a newer kho
 * wrote it, _CORRUPT where its first line is no plan.
 */
StoreJournal *store_journal_take(const StoreTree *tree, const char *kind, const char *uuid, GError **error);

const char *store_journal_change(const StoreJournal *journal);
const char *store_journal_what(const StoreJournal *journal);
/* The plan; borrowed. */
const json_t *store_journal_plan(const StoreJournal *journal);
/* Whether a mark stands for @step. */
gboolean store_journal_has(const StoreJournal *journal, const char *step, StoreMark mark);

/* Appends a mark and makes it durable. */
gboolean store_journal_mark(StoreJournal *journal, const char *step, StoreMark mark, GError **error);

/* Ends the entry: unlink and fsync of the folder. */
gboolean store_journal_end(StoreJournal *journal, GError **error);

/* Lets go of the entry; one that was not ended stays for whoever comes next. NULL is allowed. */
void store_journal_free(StoreJournal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreJournal, store_journal_free)

/* The entry of an object, or NULL where there is none or it cannot be read. Takes no lock; a stat where there
 * is none. */
StoreJournalInfo *store_journal_look(const StoreTree *tree, const char *kind, const char *uuid);

/* StoreJournalInfo *, owned: all entries of @kind, those that cannot be read as well. NULL with @error where
 * the folder cannot be read. */
GPtrArray *store_journal_list(const StoreTree *tree, const char *kind, GError **error);

#endif
