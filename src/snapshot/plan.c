#include "snapshot/plan.h"

#include "base/error.h"

#define LABEL "the plan"

#define MEMBER(plan, field, type) (*(type *) (gpointer) ((char *) (plan) + (field)->member))

gpointer
plan_new(const PlanTable *table)
{
    gpointer plan = g_malloc0(table->bytes);

    for (gsize i = 0; i < table->n_fields; i++)
        if (table->fields[i].kind == PLAN_ROWS)
            MEMBER(plan, &table->fields[i], GPtrArray *) = g_ptr_array_new();
    return plan;
}

static void
free_rows(const PlanField *field, GPtrArray *rows)
{
    for (guint i = 0; i < rows->len; i++)
        plan_free(field->rows, rows->pdata[i]);
    g_ptr_array_unref(rows);
}

void
plan_free(const PlanTable *table, gpointer plan)
{
    if (!plan)
        return;
    for (gsize i = 0; i < table->n_fields; i++) {
        const PlanField *field = &table->fields[i];
        if (field->kind == PLAN_STRING || field->kind == PLAN_MAYBE)
            g_free(MEMBER(plan, field, char *));
        else if (field->kind == PLAN_ROWS)
            free_rows(field, MEMBER(plan, field, GPtrArray *));
    }
    g_free(plan);
}

gpointer
plan_add(const PlanTable *table, GPtrArray *rows)
{
    gpointer row = plan_new(table);

    g_ptr_array_add(rows, row);
    return row;
}

static json_t *
write_struct(const PlanTable *table, gconstpointer plan)
{
    json_t *object = json_object();

    for (gsize i = 0; i < table->n_fields; i++) {
        const PlanField *field = &table->fields[i];
        if (field->kind == PLAN_STRING || field->kind == PLAN_MAYBE) {
            json_set_string(object, field->key, MEMBER(plan, field, char *));
        } else if (field->kind == PLAN_INT) {
            json_object_set_new(object, field->key, json_integer(MEMBER(plan, field, gint64)));
        } else if (field->kind == PLAN_FLAG || field->kind == PLAN_WISH) {
            json_object_set_new(object, field->key, json_boolean(MEMBER(plan, field, gboolean)));
        } else {
            const GPtrArray *rows = MEMBER(plan, field, GPtrArray *);
            json_t *list = json_array();
            for (guint n = 0; n < rows->len; n++)
                json_array_append_new(list, write_struct(field->rows, rows->pdata[n]));
            json_object_set_new(object, field->key, list);
        }
    }
    return object;
}

json_t *
plan_write(const PlanTable *table, gconstpointer plan)
{
    json_t *object = write_struct(table, plan);

    json_object_set_new(object, "version", json_integer(SNAPSHOT_PLAN_VERSION));
    return object;
}

static gpointer read_struct(const PlanTable *table, const json_t *json, GError **error);

static gboolean
read_rows(const PlanField *field, const json_t *json, GPtrArray *rows, GError **error)
{
    const json_t *list = json_object_get(json, field->key);

    if (!json_is_array(list))
        return fail(error, KHO_ERROR_INVALID, LABEL " has no list '%s'", field->key);
    for (gsize i = 0; i < json_array_size(list); i++) {
        gpointer row = read_struct(field->rows, json_array_get(list, i), error);
        if (!row)
            return FALSE;
        g_ptr_array_add(rows, row);
    }
    return TRUE;
}

static gboolean
read_field(const PlanField *field, const json_t *json, gpointer plan, GError **error)
{
    switch (field->kind) {
    case PLAN_STRING: return json_get_string(json, field->key, LABEL, &MEMBER(plan, field, char *), error);
    case PLAN_MAYBE: return json_opt_string(json, field->key, LABEL, &MEMBER(plan, field, char *), error);
    case PLAN_INT: return json_get_int(json, field->key, LABEL, &MEMBER(plan, field, gint64), error);
    case PLAN_FLAG: return json_get_bool(json, field->key, LABEL, &MEMBER(plan, field, gboolean), error);
    case PLAN_WISH: return json_opt_bool(json, field->key, LABEL, &MEMBER(plan, field, gboolean), error);
    case PLAN_ROWS: break;
    }
    return read_rows(field, json, MEMBER(plan, field, GPtrArray *), error);
}

static gpointer
read_struct(const PlanTable *table, const json_t *json, GError **error)
{
    gpointer plan = plan_new(table);

    for (gsize i = 0; i < table->n_fields; i++)
        if (!read_field(&table->fields[i], json, plan, error)) {
            plan_free(table, plan);
            return NULL;
        }
    return plan;
}

gpointer
plan_read(const PlanTable *table, const json_t *json, GError **error)
{
    gint64 version;

    if (!json_get_int(json, "version", LABEL, &version, error))
        return NULL;
    if (version > SNAPSHOT_PLAN_VERSION) {
        fail(error, KHO_ERROR_UNSUPPORTED,
             LABEL " has version %" G_GINT64_FORMAT ", this kho knows %d: use a newer kho", version,
             SNAPSHOT_PLAN_VERSION);
        return NULL;
    }
    return read_struct(table, json, error);
}
