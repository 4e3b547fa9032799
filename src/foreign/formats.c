#include "foreign/formats.h"

#include "base/error.h"
#include "base/num.h"

#include <string.h>

/* Facts: each format's own specification. */
static const struct {
    const char *name;
    gsize off, len;
    const char *mark;
} marks[] = {
    { "vmdk", 0, 4, "KDMV" },
    { "vmdk", 0, 4, "COWD" },
    { "vmdk", 0, 21, "# Disk DescriptorFile" },
    { "vdi", 64, 4, "\x7f\x10\xda\xbe" },
    { "vhdx", 0, 8, "vhdxfile" },
    { "vpc", 0, 8, "conectix" },
    { "qed", 0, 4, "QED\0" },
    { "parallels", 0, 16, "WithoutFreeSpace" },
    { "parallels", 0, 16, "WithouFreSpacExt" },
    { "qcow", 0, 8, "QFI\xfb\0\0\0\1" },
    { "bochs", 0, 22, "Bochs Virtual HD Image" },
    { "cloop", 0, 36, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop" },
};

static const struct {
    const char *name;
    gboolean made, has_backing;
} formats[] = {
    { "vmdk", TRUE, TRUE },  { "vdi", TRUE, FALSE },    { "vhdx", TRUE, FALSE },
    { "vpc", TRUE, FALSE },  { "qed", TRUE, TRUE },     { "parallels", TRUE, FALSE },
    { "qcow", TRUE, TRUE },  { "bochs", FALSE, FALSE }, { "cloop", FALSE, FALSE },
    { "dmg", FALSE, FALSE },
};

#define STREAM_GRAIN_BYTES 65536

typedef enum { OPTION_TEXT, OPTION_SIZE, OPTION_SWITCH } OptionKind;

/* qemu-img's options beside QEMU's members. */
static const struct {
    const char *format, *option, *member;
    OptionKind kind;
} options_of[] = {
    { "vmdk", "adapter_type", "adapter-type", OPTION_TEXT },
    { "vmdk", "hwversion", "hwversion", OPTION_TEXT },
    { "vmdk", "toolsversion", "toolsversion", OPTION_TEXT },
    { "vmdk", "subformat", "subformat", OPTION_TEXT },
    { "vmdk", "zeroed_grain", "zeroed-grain", OPTION_SWITCH },
    { "vdi", "preallocation", "preallocation", OPTION_TEXT },
    { "vhdx", "log_size", "log-size", OPTION_SIZE },
    { "vhdx", "block_size", "block-size", OPTION_SIZE },
    { "vhdx", "subformat", "subformat", OPTION_TEXT },
    { "vhdx", "block_state_zero", "block-state-zero", OPTION_SWITCH },
    { "vpc", "subformat", "subformat", OPTION_TEXT },
    { "vpc", "force_size", "force-size", OPTION_SWITCH },
    { "qed", "cluster_size", "cluster-size", OPTION_SIZE },
    { "qed", "table_size", "table-size", OPTION_SIZE },
    { "parallels", "cluster_size", "cluster-size", OPTION_SIZE },
};

const char *
foreign_format_probe(const guint8 *head, gsize len)
{
    for (gsize i = 0; i < G_N_ELEMENTS(marks); i++)
        if (len >= marks[i].off + marks[i].len
            && memcmp(head + marks[i].off, marks[i].mark, marks[i].len) == 0)
            return marks[i].name;
    return NULL;
}

const char *
foreign_format_find(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++)
        if (g_str_equal(formats[i].name, name))
            return formats[i].name;
    return NULL;
}

gboolean
foreign_format_has_backing(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++)
        if (formats[i].has_backing && g_str_equal(formats[i].name, name))
            return TRUE;
    return FALSE;
}

const char *
foreign_format_names(void)
{
    return "vmdk, vdi, vhdx, vpc, qed, parallels, qcow, bochs, cloop, dmg";
}

static gboolean
set_option(json_t *create, OptionKind kind, const char *member, const char *value, GError **error)
{
    guint64 bytes;

    switch (kind) {
    case OPTION_TEXT: json_set_string(create, member, value); return TRUE;
    case OPTION_SIZE:
        if (!num_parse_size(value, 1, &bytes, error))
            return FALSE;
        json_object_set_new(create, member, json_integer((json_int_t) bytes));
        return TRUE;
    case OPTION_SWITCH: break;
    }
    if (!g_str_equal(value, "on") && !g_str_equal(value, "off"))
        return fail(error, KHO_ERROR_INVALID, "%s=%s: on or off is wanted", member, value);
    json_object_set_new(create, member, json_boolean(g_str_equal(value, "on")));
    return TRUE;
}

static gboolean
read_option(json_t *create, const char *format, const char *text, GError **error)
{
    g_autoptr(GString) known = g_string_new(NULL);
    const char *equals = strchr(text, '=');
    gsize len = equals ? (gsize) (equals - text) : strlen(text);

    for (gsize i = 0; i < G_N_ELEMENTS(options_of); i++) {
        const char *option = options_of[i].option;

        if (!g_str_equal(options_of[i].format, format))
            continue;
        if (equals && strlen(option) == len && strncmp(option, text, len) == 0)
            return set_option(create, options_of[i].kind, options_of[i].member, equals + 1, error);
        g_string_append_printf(known, ", %s", option);
    }
    return fail(error, KHO_ERROR_INVALID, "unknown option '%.*s' of format %s: there are size%s", (int) len,
                text, format, known->str);
}

/* A vmdk whose grains are compressed, and written once. */
static gboolean
is_stream(const json_t *create)
{
    return g_str_equal(json_string_or(create, "subformat", ""), "streamOptimized");
}

/* --- sizes of vpc images --- */

#define SECTOR_BYTES 512

/* Sectors that the geometry has which the format's specification gives a disk of @sectors (appendix "CHS
 * Calculation"). */
static guint64
vpc_geometry_sectors(guint64 sectors)
{
    guint64 per_track = 17, tracks = sectors / 17, heads = MAX((tracks + 1023) / 1024, 4);

    if (sectors > (guint64) 65535 * 16 * 63) {
        per_track = 255;
        heads = 16;
    } else if (tracks >= heads * 1024 || heads > 16) {
        heads = 16;
        per_track = sectors / 31 >= heads * 1024 ? 63 : 31;
    }
    return sectors / per_track / heads * heads * per_track;
}

/* Programs that go by the geometry would see a shorter disk: QEMU makes images of whole geometries, unless it
 * is told to take the size as it is. What no geometry can tell keeps its size. */
static guint64
vpc_whole_bytes(guint64 bytes)
{
    guint64 wanted = num_div_up(bytes, SECTOR_BYTES), sectors = wanted;

    if (wanted > (guint64) 65535 * 16 * 255)
        return bytes;
    /* At most a track of each head more. */
    while (vpc_geometry_sectors(sectors) < wanted)
        sectors++;
    return vpc_geometry_sectors(sectors) * SECTOR_BYTES;
}

/* What would make several files is refused. */
static gboolean
check_whole(const json_t *create, const char *format, GError **error)
{
    const char *subformat = json_string_or(create, "subformat", "monolithicSparse");

    return !g_str_equal(format, "vmdk") || g_str_equal(subformat, "monolithicSparse") || is_stream(create)
           || fail(error, KHO_ERROR_UNSUPPORTED,
                   "vmdk images are made as monolithicSparse or streamOptimized, not as %s: that has several "
                   "files",
                   subformat);
}

guint32
foreign_format_unit_bytes(const char *format, const char *const *options)
{
    json_auto json_t *create = foreign_format_create_options(format, 0, options, NULL);

    return create && is_stream(create) ? STREAM_GRAIN_BYTES : 1;
}

json_t *
foreign_format_create_options(const char *format, guint64 size_bytes, const char *const *options,
                              GError **error)
{
    gboolean made = FALSE;

    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++)
        made = made || (formats[i].made && g_str_equal(formats[i].name, format));
    if (!made) {
        fail(error, KHO_ERROR_UNSUPPORTED, "images of format %s can be read only", format);
        return NULL;
    }
    json_auto json_t *create =
        json_pack("{s:s,s:s,s:I}", "driver", format, "file", "file", "size", (json_int_t) size_bytes);
    for (; options && *options; options++)
        if (!read_option(create, format, *options, error))
            return NULL;
    if (g_str_equal(format, "vpc") && !json_is_true(json_object_get(create, "force-size")))
        json_object_set_new(create, "size", json_integer((json_int_t) vpc_whole_bytes(size_bytes)));
    return check_whole(create, format, error) ? json_steal(&create) : NULL;
}
