#include "qemuimg/foreign_options.h"

#include "qemuimg/output.h"

static const QimgOptRow vmdk_rows[] = {
    { "size", QIMG_OPT_SIZE, "Virtual disk size" },
    { "adapter_type", QIMG_OPT_STRING,
      "Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX" },
    { "backing_file", QIMG_OPT_STRING, "File name of a base image" },
    { "backing_fmt", QIMG_OPT_STRING, "Must be 'vmdk' if present" },
    { "compat6", QIMG_OPT_BOOL, "VMDK version 6 image", "off" },
    { "hwversion", QIMG_OPT_STRING, "VMDK hardware version", "undefined" },
    { "toolsversion", QIMG_OPT_STRING, "VMware guest tools version" },
    { "subformat", QIMG_OPT_STRING,
      "VMDK flat extent format, can be one of {monolithicSparse (default) | monolithicFlat | "
      "twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} " },
    { "zeroed_grain", QIMG_OPT_BOOL, "Enable efficient zero writes using the zeroed-grain GTE feature" },
};

static const QimgOptRow vdi_rows[] = {
    { "size", QIMG_OPT_SIZE, "Virtual disk size" },
    { "static", QIMG_OPT_BOOL, "VDI static (pre-allocated) image", "off" },
};

static const QimgOptRow vhdx_rows[] = {
    { "size", QIMG_OPT_SIZE, "Virtual disk size; max of 64TB." },
    { "log_size", QIMG_OPT_SIZE, "Log size; min 1MB.", "1048576" },
    { "block_size", QIMG_OPT_SIZE,
      "Block Size; min 1MB, max 256MB. 0 means auto-calculate based on image size.", "0" },
    { "subformat", QIMG_OPT_STRING,
      "VHDX format type, can be either 'dynamic' or 'fixed'. Default is 'dynamic'." },
    { "block_state_zero", QIMG_OPT_BOOL,
      "Force use of payload blocks of type 'ZERO'. Non-standard, but default.  Do not set to 'off' when "
      "using "
      "'qemu-img convert' with subformat=dynamic." },
};

static const QimgOptRow vpc_rows[] = {
    { "size", QIMG_OPT_SIZE, "Virtual disk size" },
    { "subformat", QIMG_OPT_STRING,
      "Type of virtual hard disk format. Supported formats are {dynamic (default) | fixed} " },
    { "force_size", QIMG_OPT_BOOL,
      "Force disk size calculation to use the actual size specified, rather than using the nearest CHS-based "
      "calculation" },
};

static const QimgOptRow qed_rows[] = {
    { "size", QIMG_OPT_SIZE, "Virtual disk size" },
    { "backing_file", QIMG_OPT_STRING, "File name of a base image" },
    { "backing_fmt", QIMG_OPT_STRING, "Image format of the base image" },
    { "cluster_size", QIMG_OPT_SIZE, "Cluster size (in bytes)", "65536" },
    { "table_size", QIMG_OPT_SIZE, "L1/L2 table size (in clusters)" },
};

static const QimgOptRow parallels_rows[] = {
    { "size", QIMG_OPT_SIZE, "Virtual disk size" },
    { "cluster_size", QIMG_OPT_SIZE, "Parallels image cluster size", "1048576" },
};

static const QimgOptRow qcow_rows[] = {
    { "size", QIMG_OPT_SIZE, "Virtual disk size" },
    { "backing_file", QIMG_OPT_STRING, "File name of a base image" },
    { "backing_fmt", QIMG_OPT_STRING, "Format of the backing image" },
    { "encryption", QIMG_OPT_BOOL,
      "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)" },
    { "encrypt.format", QIMG_OPT_STRING, "Encrypt the image, format choices: 'aes'" },
    { "encrypt.key-secret", QIMG_OPT_STRING, "ID of the secret that provides the AES encryption key" },
};

static const struct {
    const char *format;
    const QimgOptRow *rows;
    guint n;
} formats[] = {
    { "vmdk", vmdk_rows, G_N_ELEMENTS(vmdk_rows) },
    { "vdi", vdi_rows, G_N_ELEMENTS(vdi_rows) },
    { "vhdx", vhdx_rows, G_N_ELEMENTS(vhdx_rows) },
    { "vpc", vpc_rows, G_N_ELEMENTS(vpc_rows) },
    { "qed", qed_rows, G_N_ELEMENTS(qed_rows) },
    { "parallels", parallels_rows, G_N_ELEMENTS(parallels_rows) },
    { "qcow", qcow_rows, G_N_ELEMENTS(qcow_rows) },
};

const QimgOptRow *
qimg_foreign_rows(const char *format, guint *n_rows)
{
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++)
        if (g_str_equal(formats[i].format, format)) {
            *n_rows = formats[i].n;
            return formats[i].rows;
        }
    return NULL;
}

/* What is no option of QEMU's, when it makes the image for kho: taken where it says what is so anyway. */
static gboolean
is_idle(const char *name, const char *value)
{
    static const char *const off[] = { "compat6", "encryption", "preallocation", "nocow" };

    for (gsize i = 0; i < G_N_ELEMENTS(off); i++)
        if (g_str_equal(name, off[i]))
            return g_str_equal(value, "off");
    return FALSE;
}

/* Whether kho_image_create has a member of its own for it, or the face has taken it already. */
static gboolean
is_apart(const char *name)
{
    return g_str_equal(name, "size") || g_str_equal(name, "backing_file") || g_str_equal(name, "backing_fmt")
           || g_str_equal(name, "extent_size_hint");
}

gboolean
qimg_foreign_apply(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    static GPtrArray *given; /* of the one image that a run makes */

    g_clear_pointer(&given, g_ptr_array_unref);
    given = g_ptr_array_new_with_free_func(g_free);
    create->backing_file = qimg_options_given(options, "backing_file");
    create->backing_format = qimg_options_given(options, "backing_fmt");
    for (guint i = 0; i < options->n_rows; i++) {
        const char *name = options->rows[i].name, *value = qimg_options_given(options, name);

        if (!value || is_apart(name) || is_idle(name, value))
            continue;
        if (is_idle(name, "off") || g_str_has_prefix(name, "encrypt")) {
            qimg_error_about(subject, "kho makes no images of the format '%s' with the option '%s'",
                             create->format, name);
            return FALSE;
        }
        if (!g_str_equal(name, "static"))
            g_ptr_array_add(given, g_strdup_printf("%s=%s", name, value));
        else if (g_str_equal(value, "on"))
            g_ptr_array_add(given, g_strdup("preallocation=metadata"));
    }
    g_ptr_array_add(given, NULL);
    create->foreign_options = (const char *const *) given->pdata;
    return TRUE;
}
