#include "model/pool.h"

#include "base/error.h"
#include "base/xml.h"
#include "model/permissions.h"

static const char *const pool_types[] = { "",        "dir",   "fs",       "netfs",
                                          "logical", "disk",  "iscsi",    "iscsi-direct",
                                          "scsi",    "mpath", "rbd",      "sheepdog",
                                          "gluster", "zfs",   "vstorage", NULL };

static const ModelRow pool_rows[] = {
    ROW_WORD("@type", ModelPool, type, pool_types),
    ROW("/name", MODEL_STRING, ModelPool, name),
    ROW("/uuid", MODEL_UUID, ModelPool, uuid),
    ROW("/capacity", MODEL_BYTES, ModelPool, capacity_bytes),
    ROW("/allocation", MODEL_BYTES, ModelPool, allocation_bytes),
    ROW("/available", MODEL_BYTES, ModelPool, available_bytes),
    { .path = "/source",
      .kind = MODEL_FLAG,
      .flags = MODEL_ROW_ALWAYS,
      .member = G_STRUCT_OFFSET(ModelPool, has_source) },
    ROW("/target/path", MODEL_STRING, ModelPool, target_path),
    PERMISSION_ROWS("/target", ModelPool, permissions),
};
static const ModelTable pool_table = TABLE("pool", ModelPool, pool_rows);

ModelPool *
model_pool_parse(const char *text, gsize len, GError **error)
{
    g_autoptr(ModelPool) p = model_table_parse(&pool_table, text, len, error);

    if (!p)
        return NULL;
    if (p->type == MODEL_POOL_UNSET) {
        fail(error, KHO_ERROR_INVALID, "line %u: <pool> has no attribute 'type': give dir", p->node.line);
        return NULL;
    }
    if (!p->name || !*p->name) {
        fail(error, KHO_ERROR_INVALID, "line %u: <pool> has no <name>", p->node.line);
        return NULL;
    }
    return g_steal_pointer(&p);
}

gboolean
model_pool_complete(ModelPool *pool, GError **error)
{
    if (pool->type == MODEL_POOL_DIR && (!pool->target_path || !g_path_is_absolute(pool->target_path)))
        return fail(error, KHO_ERROR_INVALID, "pool '%s': <target> needs a <path>, absolute, not '%s'",
                    pool->name, pool->target_path ? pool->target_path : "");
    if (pool->target_path && !xml_can_say(pool->target_path))
        return fail(error, KHO_ERROR_INVALID,
                    "pool '%s': the name of its folder has bytes that no definition can hold", pool->name);
    if (!pool->uuid)
        pool->uuid = g_uuid_string_random();
    pool->capacity_bytes = pool->allocation_bytes = pool->available_bytes = 0;
    return TRUE;
}

char *
model_pool_format(const ModelPool *pool)
{
    return model_table_format(&pool->node);
}

GPtrArray *
model_pool_unknown(const ModelPool *pool)
{
    return model_table_unknown_text(&pool->node);
}

ModelPool *
model_pool_new(ModelPoolType type, const char *name, const char *target_path)
{
    ModelPool *p = model_node_new(&pool_table);

    p->type = type;
    p->name = g_strdup(name);
    p->target_path = g_strdup(target_path);
    p->capacity_bytes = p->allocation_bytes = p->available_bytes = 0;
    return p;
}

void
model_pool_free(ModelPool *pool)
{
    model_node_free(pool);
}

const char *
model_pool_type_word(ModelPoolType type)
{
    return type ? pool_types[type] : NULL;
}
