#include "qemuimg/image_info.h"

#include "base/error.h"
#include "base/json.h"
#include "base/num.h"
#include "qemuimg/encryption_info.h"

/* --- JSON --- */

json_t *
qimg_snapshots_json(const GPtrArray *snapshots)
{
    json_t *list = json_array();

    for (guint i = 0; i < snapshots->len; i++) {
        const KhoImageSnapshot *s = g_ptr_array_index(snapshots, i);
        json_t *one = json_object();

        json_object_set_new(one, "id", json_from_bytes(s->id));
        json_object_set_new(one, "name", json_from_bytes(s->name));
        json_object_set_new(one, "vm-state-size", json_integer((json_int_t) s->vm_state_bytes));
        json_object_set_new(one, "date-sec", json_integer(s->date_s));
        json_object_set_new(one, "date-nsec", json_integer(s->date_ns));
        json_object_set_new(one, "vm-clock-sec", json_integer((json_int_t) (s->vm_clock_ns / 1000000000)));
        json_object_set_new(one, "vm-clock-nsec", json_integer((json_int_t) (s->vm_clock_ns % 1000000000)));
        if (s->icount >= 0)
            json_object_set_new(one, "icount", json_integer(s->icount));
        json_array_append_new(list, one);
    }
    return list;
}

json_t *
qimg_bitmaps_json(const GPtrArray *bitmaps)
{
    json_t *list = json_array();

    for (guint i = 0; i < bitmaps->len; i++) {
        const KhoImageBitmap *b = g_ptr_array_index(bitmaps, i);
        json_t *flags = json_array();

        if (b->in_use)
            json_array_append_new(flags, json_string("in-use"));
        if (b->is_auto)
            json_array_append_new(flags, json_string("auto"));
        json_array_append_new(list,
                              json_pack("{s:o,s:o,s:I}", "flags", flags, "name", json_from_bytes(b->name),
                                        "granularity", (json_int_t) b->granularity_bytes));
    }
    return list;
}

char *
qimg_bitmaps_text(const GPtrArray *bitmaps)
{
    GString *text = g_string_new("NAME                      GRANULARITY  FLAGS\n");

    for (guint i = 0; i < bitmaps->len; i++) {
        const KhoImageBitmap *b = g_ptr_array_index(bitmaps, i);
        g_autofree char *name = error_one_line(b->name);

        g_string_append_printf(text, "%-25s %11" G_GUINT64_FORMAT "  %s%s%s\n", name, b->granularity_bytes,
                               b->in_use ? "in-use" : "", b->in_use && b->is_auto ? "," : "",
                               b->is_auto ? "auto" : "");
    }
    return g_string_free(text, FALSE);
}

static json_t *
qcow2_json(const KhoImageInfo *info)
{
    json_t *data = json_object();

    json_object_set_new(data, "compat", json_from_bytes(info->qcow2_version == 2 ? "0.10" : "1.1"));
    if (info->compression)
        json_object_set_new(data, "compression-type", json_from_bytes(info->compression));
    if (info->qcow2_version >= 3)
        json_object_set_new(data, "lazy-refcounts", json_boolean(info->lazy_refcounts));
    if (info->bitmaps->len > 0)
        json_object_set_new(data, "bitmaps", qimg_bitmaps_json(info->bitmaps));
    json_object_set_new(data, "refcount-bits", json_integer(info->refcount_bits));
    if (info->data_file)
        json_object_set_new(data, "data-file", json_from_bytes(info->data_file));
    if (info->encryption)
        json_object_set_new(data, "encrypt", qimg_encryption_json(info->encryption, FALSE));
    if (info->has_data_file)
        json_object_set_new(data, "data-file-raw", json_boolean(info->data_file_raw));
    if (info->qcow2_version >= 3) {
        json_object_set_new(data, "corrupt", json_boolean(info->corrupt));
        json_object_set_new(data, "extended-l2", json_boolean(info->extended_l2));
    }
    return json_pack("{s:s,s:o}", "type", "qcow2", "data", data);
}

json_t *
qimg_info_json(const KhoImageInfo *info)
{
    json_t *root = json_object();

    json_object_set_new(root, "filename", json_from_bytes(info->path));
    json_object_set_new(root, "format", json_from_bytes(info->format));
    json_object_set_new(root, "virtual-size", json_integer((json_int_t) info->virtual_bytes));
    if (!info->actual_unknown)
        json_object_set_new(root, "actual-size", json_integer((json_int_t) info->actual_bytes));
    if (info->cluster_bytes)
        json_object_set_new(root, "cluster-size", json_integer(info->cluster_bytes));
    if (info->encrypted)
        json_object_set_new(root, "encrypted", json_true());
    if (info->backing_file)
        json_object_set_new(root, "backing-filename", json_from_bytes(info->backing_file));
    if (info->full_backing_path)
        json_object_set_new(root, "full-backing-filename", json_from_bytes(info->full_backing_path));
    if (info->backing_format)
        json_object_set_new(root, "backing-filename-format", json_from_bytes(info->backing_format));
    if (info->snapshots->len > 0)
        json_object_set_new(root, "snapshots", qimg_snapshots_json(info->snapshots));
    if (info->qcow2_version)
        json_object_set_new(root, "format-specific", qcow2_json(info));
    else if (info->encryption)
        json_object_set_new(
            root, "format-specific",
            json_pack("{s:s,s:o}", "type", "luks", "data", qimg_encryption_json(info->encryption, TRUE)));
    json_t *specific = info->specific ? json_loads(info->specific, JSON_DECODE_ANY, NULL) : NULL;
    if (specific)
        json_object_set_new(root, "format-specific", specific);
    json_object_set_new(root, "dirty-flag", json_boolean(info->dirty));
    return root;
}

/* --- text --- */

char *
qimg_snapshots_text(const GPtrArray *snapshots)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK",
                           "ICOUNT");
    for (guint i = 0; i < snapshots->len; i++) {
        const KhoImageSnapshot *s = g_ptr_array_index(snapshots, i);
        g_autofree char *state = num_format_size(s->vm_state_bytes);
        g_autoptr(GDateTime) date = g_date_time_new_from_unix_local(s->date_s);
        g_autofree char *when = date ? g_date_time_format(date, "%Y-%m-%d %H:%M:%S") : g_strdup("-");
        guint64 ms = s->vm_clock_ns / 1000000;
        g_autofree char *clock =
            g_strdup_printf("%02d:%02d:%02d.%03d", (int) (ms / 3600000), (int) (ms / 60000 % 60),
                            (int) (ms / 1000 % 60), (int) (ms % 1000));
        g_autofree char *icount =
            s->icount >= 0 ? g_strdup_printf("%" G_GINT64_FORMAT, s->icount) : g_strdup("");

        g_string_append_printf(text, "%-9s %-16s %8s%20s%13s%11s\n", s->id, s->name, state, when, clock,
                               icount);
    }
    return g_string_free(text, FALSE);
}

static void
append_flag(GString *text, const char *name, gboolean on)
{
    g_string_append_printf(text, "    %s: %s\n", name, on ? "true" : "false");
}

static void
append_bitmaps(GString *text, const GPtrArray *bitmaps)
{
    for (guint i = 0; i < bitmaps->len; i++) {
        const KhoImageBitmap *b = g_ptr_array_index(bitmaps, i);
        guint flag = 0;

        g_string_append_printf(text, "%s        [%u]:\n            flags:\n", i == 0 ? "    bitmaps:\n" : "",
                               i);
        if (b->in_use)
            g_string_append_printf(text, "                [%u]: in-use\n", flag++);
        if (b->is_auto)
            g_string_append_printf(text, "                [%u]: auto\n", flag);
        g_string_append_printf(text, "            name: %s\n            granularity: %" G_GUINT64_FORMAT "\n",
                               b->name, b->granularity_bytes);
    }
}

static void
append_qcow2(GString *text, const KhoImageInfo *info)
{
    g_string_append_printf(text, "Format specific information:\n    compat: %s\n",
                           info->qcow2_version == 2 ? "0.10" : "1.1");
    if (info->compression)
        g_string_append_printf(text, "    compression type: %s\n", info->compression);
    if (info->qcow2_version >= 3)
        append_flag(text, "lazy refcounts", info->lazy_refcounts);
    append_bitmaps(text, info->bitmaps);
    g_string_append_printf(text, "    refcount bits: %u\n", info->refcount_bits);
    if (info->data_file)
        g_string_append_printf(text, "    data file: %s\n", info->data_file);
    if (info->encryption)
        qimg_encryption_append(text, info->encryption, FALSE);
    if (info->has_data_file)
        append_flag(text, "data file raw", info->data_file_raw);
    if (info->qcow2_version >= 3) {
        append_flag(text, "corrupt", info->corrupt);
        append_flag(text, "extended l2", info->extended_l2);
    }
}

static void
append_luks(GString *text, const KhoImageEncryptionInfo *info)
{
    g_string_append(text, "Format specific information:\n");
    qimg_encryption_append(text, info, TRUE);
}

/* As qemu-img prints it: a line a member, lists by number, dashes as blanks. */
static void
append_specific(GString *text, const char *name, json_t *value, int depth)
{
    g_autofree char *shown = g_strdelimit(g_strdup(name), "-", ' ');
    const char *key;
    json_t *member;
    gsize i;

    g_string_append_printf(text, "%*s%s:", depth * 4, "", shown);
    if (json_is_object(value) || json_is_array(value))
        g_string_append_printf(text, "\n");
    json_object_foreach (value, key, member)
        append_specific(text, key, member, depth + 1);
    json_array_foreach (value, i, member) {
        g_autofree char *number = g_strdup_printf("[%" G_GSIZE_FORMAT "]", i);
        append_specific(text, number, member, depth + 1);
    }
    if (json_is_string(value))
        g_string_append_printf(text, " %s\n", json_string_value(value));
    else if (json_is_integer(value))
        g_string_append_printf(text, " %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
    else if (json_is_boolean(value))
        g_string_append_printf(text, " %s\n", json_is_true(value) ? "true" : "false");
}

/* What QEMU says of a format of its own: under "data". */
static void
append_foreign(GString *text, const KhoImageInfo *info)
{
    json_t *specific = info->specific ? json_loads(info->specific, JSON_DECODE_ANY, NULL) : NULL;
    const char *key;
    json_t *member;

    if (json_object_size(json_object_get(specific, "data")) > 0)
        g_string_append_printf(text, "Format specific information:\n");
    json_object_foreach (json_object_get(specific, "data"), key, member)
        append_specific(text, key, member, 1);
    json_decref(specific);
}

static void
append_backing(GString *text, const KhoImageInfo *info)
{
    if (!info->backing_file)
        return;
    g_string_append_printf(text, "backing file: %s", info->backing_file);
    if (!info->full_backing_path)
        g_string_append(text, " (cannot determine actual path)");
    else if (!g_str_equal(info->backing_file, info->full_backing_path))
        g_string_append_printf(text, " (actual path: %s)", info->full_backing_path);
    g_string_append_c(text, '\n');
    if (info->backing_format)
        g_string_append_printf(text, "backing file format: %s\n", info->backing_format);
}

char *
qimg_info_text(const KhoImageInfo *info)
{
    g_autofree char *virtual_size = num_format_size(info->virtual_bytes);
    g_autofree char *disk_size =
        info->actual_unknown ? g_strdup("unavailable") : num_format_size(info->actual_bytes);
    GString *text = g_string_new(NULL);

    g_string_append_printf(
        text, "image: %s\nfile format: %s\nvirtual size: %s (%" G_GUINT64_FORMAT " bytes)\ndisk size: %s\n",
        info->path, info->format, virtual_size, info->virtual_bytes, disk_size);
    if (info->encrypted)
        g_string_append(text, "encrypted: yes\n");
    if (info->cluster_bytes)
        g_string_append_printf(text, "cluster_size: %u\n", info->cluster_bytes);
    if (info->dirty)
        g_string_append(text, "cleanly shut down: no\n");
    append_backing(text, info);
    if (info->snapshots->len > 0) {
        g_autofree char *snapshots = qimg_snapshots_text(info->snapshots);
        g_string_append_printf(text, "Snapshot list:\n%s", snapshots);
    }
    if (info->qcow2_version)
        append_qcow2(text, info);
    else if (info->encryption)
        append_luks(text, info->encryption);
    append_foreign(text, info);
    return g_string_free(text, FALSE);
}
