#include "model/snapshot.h"

#include "base/error.h"
#include "model/device_table.h"

static const char *const states[] = { "",         "nostate", "running", "blocked",     "paused",
                                      "shutdown", "shutoff", "crashed", "pmsuspended", "disk-snapshot",
                                      NULL };
static const char *const locations[] = { "", "no", "internal", "external", "manual", NULL };
static const char *const memory_locations[] = { "", "no", "internal", "external", NULL };

static const ModelRow disk_rows[] = {
    ROW("@name", MODEL_STRING, ModelSnapshotDisk, name),
    ROW_WORD("@snapshot", ModelSnapshotDisk, location, locations),
    ROW_WORD("@type", ModelSnapshotDisk, type, model_source_types),
    ROW("/driver@type", MODEL_STRING, ModelSnapshotDisk, format),
    ROW("/source@file", MODEL_STRING, ModelSnapshotDisk, source_file),
};
static const ModelTable disk_table = TABLE("disk", ModelSnapshotDisk, disk_rows);

static const ModelRow file_rows[] = {
    ROW("@name", MODEL_STRING, ModelSnapshotFile, name),
    ROW("@file", MODEL_STRING, ModelSnapshotFile, file),
    ROW("@format", MODEL_STRING, ModelSnapshotFile, format),
    ROW("@stamp", MODEL_STRING, ModelSnapshotFile, stamp),
};
static const ModelTable file_table = TABLE("kho:disk", ModelSnapshotFile, file_rows);

static const ModelRow below_rows[] = {
    ROW("@name", MODEL_STRING, ModelSnapshotFile, name),
    ROW("@file", MODEL_STRING, ModelSnapshotFile, file),
    ROW("@stamp", MODEL_STRING, ModelSnapshotFile, stamp),
};
static const ModelTable below_table = TABLE("kho:below", ModelSnapshotFile, below_rows);

static const ModelSpace own_space = { "kho", MODEL_SNAPSHOT_URI };

static const ModelRow snapshot_rows[] = {
    ROW("/name", MODEL_STRING, ModelSnapshot, name),
    ROW("/description", MODEL_STRING, ModelSnapshot, description),
    ROW_WORD("/state", ModelSnapshot, state, states),
    ROW("/parent/name", MODEL_STRING, ModelSnapshot, parent),
    ROW("/creationTime", MODEL_TIME, ModelSnapshot, created_s),
    ROW_WORD("/memory@snapshot", ModelSnapshot, memory, memory_locations),
    ROW("/memory@file", MODEL_STRING, ModelSnapshot, memory_file),
    ROW_LIST("/disks/disk", ModelSnapshot, disks, &disk_table),
    ROW_LIST("/domain", ModelSnapshot, domains, &model_domain_table),
    ROW_LIST("/inactiveDomain", ModelSnapshot, inactive, &model_domain_table),
    ROW_KEEP("/cookie"),
    ROW_NUMBER("/kho:snapshot@version", ModelSnapshot, version, 1, G_MAXINT),
    ROW("/kho:snapshot@deleting", MODEL_YES, ModelSnapshot, deleting),
    ROW_NUMBER("/kho:snapshot@pauseMs", ModelSnapshot, pause_ms, 0, G_MAXINT),
    ROW_LIST("/kho:snapshot/kho:disk", ModelSnapshot, files, &file_table),
    ROW_LIST("/kho:snapshot/kho:below", ModelSnapshot, below, &below_table),
};
static const ModelTable snapshot_table = {
    .element = "domainsnapshot",
    .bytes = sizeof(ModelSnapshot),
    .rows = snapshot_rows,
    .n_rows = G_N_ELEMENTS(snapshot_rows),
    .space = &own_space,
};

static gboolean
check(const ModelSnapshot *s, GError **error)
{
    guint line = s->node.line;

    if (s->version != MODEL_UNSET && s->version > MODEL_SNAPSHOT_VERSION)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "the snapshot has version %d, this kho knows %d: use a newer kho", s->version,
                    MODEL_SNAPSHOT_VERSION);
    if (!s->name || !*s->name)
        return fail(error, KHO_ERROR_INVALID, "line %u: <domainsnapshot> has no <name>", line);
    if (s->domains->len > 1 || s->inactive->len > 1)
        return fail(error, KHO_ERROR_INVALID,
                    "line %u: <domainsnapshot> has more than one <domain> or <inactiveDomain>", line);
    for (guint i = 0; i < s->disks->len; i++) {
        const ModelSnapshotDisk *disk = s->disks->pdata[i];
        if (!disk->name || !*disk->name)
            return fail(error, KHO_ERROR_INVALID, "line %u: <disk> has no attribute 'name'", disk->node.line);
    }
    for (guint i = 0; i < s->files->len; i++) {
        const ModelSnapshotFile *file = s->files->pdata[i];
        if (!file->name || !file->file || !file->format || !g_path_is_absolute(file->file))
            return fail(error, KHO_ERROR_INVALID,
                        "line %u: <kho:disk> needs the attributes 'name', 'file' (an absolute path) and "
                        "'format'",
                        file->node.line);
    }
    for (guint i = 0; i < s->below->len; i++) {
        const ModelSnapshotFile *file = s->below->pdata[i];
        if (!file->name || !file->file || !file->stamp || !g_path_is_absolute(file->file))
            return fail(error, KHO_ERROR_INVALID,
                        "line %u: <kho:below> needs the attributes 'name', 'file' (an absolute path) and "
                        "'stamp'",
                        file->node.line);
    }
    return TRUE;
}

ModelSnapshot *
model_snapshot_parse(const char *text, gsize len, GError **error)
{
    g_autoptr(ModelSnapshot) s = model_table_parse(&snapshot_table, text, len, error);

    if (!s || !check(s, error))
        return NULL;
    return g_steal_pointer(&s);
}

char *
model_snapshot_format(const ModelSnapshot *snapshot)
{
    return model_table_format(&snapshot->node);
}

ModelSnapshot *
model_snapshot_new(const char *name)
{
    ModelSnapshot *s = model_node_new(&snapshot_table);

    s->name = g_strdup(name);
    s->version = MODEL_SNAPSHOT_VERSION;
    return s;
}

void
model_snapshot_free(ModelSnapshot *snapshot)
{
    model_node_free(snapshot);
}

void
model_snapshot_add_disk(ModelSnapshot *snapshot, const char *name, ModelLocation location, const char *file,
                        const char *format)
{
    ModelSnapshotDisk *disk = model_node_new(&disk_table);

    disk->name = g_strdup(name);
    disk->location = location;
    disk->type = file ? MODEL_SOURCE_FILE : MODEL_SOURCE_UNSET;
    disk->format = g_strdup(format);
    disk->source_file = g_strdup(file);
    g_ptr_array_add(snapshot->disks, disk);
}

void
model_snapshot_add_file(ModelSnapshot *snapshot, const char *name, const char *file, const char *format)
{
    ModelSnapshotFile *closed = model_node_new(&file_table);

    closed->name = g_strdup(name);
    closed->file = g_strdup(file);
    closed->format = g_strdup(format);
    g_ptr_array_add(snapshot->files, closed);
}

void
model_snapshot_add_below(ModelSnapshot *snapshot, const char *name, const char *file, const char *stamp)
{
    ModelSnapshotFile *below = model_node_new(&below_table);

    below->name = g_strdup(name);
    below->file = g_strdup(file);
    below->stamp = g_strdup(stamp);
    g_ptr_array_add(snapshot->below, below);
}

void
model_snapshot_set_domain(ModelSnapshot *snapshot, const ModelDomain *domain, const ModelDomain *inactive)
{
    g_ptr_array_set_size(snapshot->domains, 0);
    g_ptr_array_set_size(snapshot->inactive, 0);
    g_ptr_array_add(snapshot->domains, model_domain_copy(domain));
    if (inactive)
        g_ptr_array_add(snapshot->inactive, model_domain_copy(inactive));
}

ModelSnapshotFile *
model_snapshot_file(const ModelSnapshot *snapshot, const char *name)
{
    for (guint i = 0; i < snapshot->files->len; i++) {
        ModelSnapshotFile *file = snapshot->files->pdata[i];
        if (g_strcmp0(file->name, name) == 0)
            return file;
    }
    return NULL;
}

static gboolean
move(char **file, char **file_format, const char *from, const char *to, const char *format)
{
    if (g_strcmp0(*file, from) != 0)
        return FALSE;
    g_free(*file);
    *file = g_strdup(to);
    g_free(*file_format);
    *file_format = g_strdup(format);
    return TRUE;
}

gboolean
model_snapshot_move_file(ModelSnapshot *snapshot, const char *from, const char *to, const char *format)
{
    gboolean found = FALSE;

    for (guint i = 0; i < snapshot->disks->len; i++) {
        ModelSnapshotDisk *disk = snapshot->disks->pdata[i];
        found |= move(&disk->source_file, &disk->format, from, to, format);
    }
    for (guint i = 0; i < snapshot->files->len; i++) {
        ModelSnapshotFile *file = snapshot->files->pdata[i];
        if (move(&file->file, &file->format, from, to, format)) {
            g_clear_pointer(&file->stamp, g_free);
            found = TRUE;
        }
    }
    for (guint i = 0; i < snapshot->domains->len; i++)
        found |= model_domain_move_disk(snapshot->domains->pdata[i], from, to, format);
    for (guint i = 0; i < snapshot->inactive->len; i++)
        found |= model_domain_move_disk(snapshot->inactive->pdata[i], from, to, format);
    return found;
}

gboolean
model_snapshot_drop_file(ModelSnapshot *snapshot, const char *name)
{
    ModelSnapshotFile *file = model_snapshot_file(snapshot, name);

    return file && g_ptr_array_remove(snapshot->files, file);
}

const ModelDomain *
model_snapshot_definition(const ModelSnapshot *snapshot)
{
    const GPtrArray *from = snapshot->inactive->len > 0 ? snapshot->inactive : snapshot->domains;
    return from->len > 0 ? from->pdata[0] : NULL;
}

const char *
model_snapshot_state_word(ModelSnapshotState state)
{
    return state ? states[state] : NULL;
}

const char *
model_location_word(ModelLocation location)
{
    return location ? locations[location] : NULL;
}
