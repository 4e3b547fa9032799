#include "model/volume.h"

#include "base/error.h"
#include "model/permissions.h"

static const char *const volume_types[] = { "", "file", "block", "dir", "network", "netdir", "ploop", NULL };

static const ModelRow volume_rows[] = {
    ROW_WORD("@type", ModelVolume, type, volume_types),
    ROW("/name", MODEL_STRING, ModelVolume, name),
    ROW("/key", MODEL_STRING, ModelVolume, key),
    ROW("/capacity", MODEL_BYTES, ModelVolume, capacity_bytes),
    ROW("/allocation", MODEL_BYTES, ModelVolume, allocation_bytes),
    ROW("/physical", MODEL_BYTES, ModelVolume, physical_bytes),
    ROW("/target/path", MODEL_STRING, ModelVolume, target_path),
    ROW("/target/format@type", MODEL_STRING, ModelVolume, format),
    PERMISSION_ROWS("/target", ModelVolume, permissions),
    ROW("/target/timestamps/atime", MODEL_STRING, ModelVolume, atime),
    ROW("/target/timestamps/mtime", MODEL_STRING, ModelVolume, mtime),
    ROW("/target/timestamps/ctime", MODEL_STRING, ModelVolume, ctime),
    ROW("/target/timestamps/btime", MODEL_STRING, ModelVolume, btime),
    ROW("/target/compat", MODEL_STRING, ModelVolume, compat),
    ROW("/target/clusterSize", MODEL_BYTES, ModelVolume, cluster_bytes),
    ROW("/target/features/lazy_refcounts", MODEL_FLAG, ModelVolume, lazy_refcounts),
    ROW("/backingStore/path", MODEL_STRING, ModelVolume, backing_path),
    ROW("/backingStore/format@type", MODEL_STRING, ModelVolume, backing_format),
};
static const ModelTable volume_table = TABLE("volume", ModelVolume, volume_rows);

ModelVolume *
model_volume_parse(const char *text, gsize len, GError **error)
{
    g_autoptr(ModelVolume) v = model_table_parse(&volume_table, text, len, error);

    if (!v)
        return NULL;
    if (!v->name || !*v->name) {
        fail(error, KHO_ERROR_INVALID, "line %u: <volume> has no <name>", v->node.line);
        return NULL;
    }
    if (v->capacity_bytes == MODEL_SIZE_UNSET && !v->backing_path) {
        fail(error, KHO_ERROR_INVALID,
             "line %u: <volume> has no <capacity>: only one with a <backingStore> may leave it out",
             v->node.line);
        return NULL;
    }
    return g_steal_pointer(&v);
}

char *
model_volume_format(const ModelVolume *volume)
{
    return model_table_format(&volume->node);
}

GPtrArray *
model_volume_unknown(const ModelVolume *volume)
{
    return model_table_unknown_text(&volume->node);
}

ModelVolume *
model_volume_new(const char *name)
{
    ModelVolume *v = model_node_new(&volume_table);

    v->name = g_strdup(name);
    return v;
}

void
model_volume_free(ModelVolume *volume)
{
    model_node_free(volume);
}

const char *
model_volume_type_word(ModelVolumeType type)
{
    return type ? volume_types[type] : NULL;
}
