/* Plans of changes as JSON, and the structs that the steps work on: a table of members drives both
 * directions. What the members of each kind of change mean stands beside its steps. */
#ifndef KHO_SNAPSHOT_PLAN_H
#define KHO_SNAPSHOT_PLAN_H

#include "base/json.h"

#define SNAPSHOT_PLAN_VERSION 1

typedef enum {
    PLAN_STRING, /* char *; required */
    PLAN_MAYBE,  /* char *; NULL for absent */
    PLAN_INT,    /* gint64 */
    PLAN_FLAG,   /* gboolean */
    PLAN_WISH,   /* gboolean; absent: FALSE, as in what an older kho began */
    PLAN_ROWS    /* GPtrArray of structs of .rows */
} PlanKind;

typedef struct PlanTable PlanTable;

typedef struct {
    PlanKind kind;
    const char *key;
    gsize member;
    const PlanTable *rows;
} PlanField;

struct PlanTable {
    const PlanField *fields;
    gsize n_fields;
    gsize bytes; /* of the struct */
};

#define PLAN_FIELD(k, key, T, m)                                                                             \
    {                                                                                                        \
        (k), (key), offsetof(T, m), NULL                                                                     \
    }
#define PLAN_LIST(key, T, m, t)                                                                              \
    {                                                                                                        \
        PLAN_ROWS, (key), offsetof(T, m), (t)                                                                \
    }
#define PLAN_TABLE(T, f)                                                                                     \
    {                                                                                                        \
        .fields = (f), .n_fields = G_N_ELEMENTS(f), .bytes = sizeof(T)                                       \
    }

/* A struct of @table with all absent, lists empty. */
gpointer plan_new(const PlanTable *table);
/* Frees the members and the struct; NULL is allowed. */
void plan_free(const PlanTable *table, gpointer plan);
/* A struct of @table with all absent, added to @rows. */
gpointer plan_add(const PlanTable *table, GPtrArray *rows);

/* A new reference; the outermost one carries the version. */
json_t *plan_write(const PlanTable *table, gconstpointer plan);
/* NULL with KHO_ERROR_INVALID naming the member, _UNSUPPORTED where a newer kho wrote it. */
gpointer plan_read(const PlanTable *table, const json_t *json, GError **error);

#endif
