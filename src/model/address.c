#include "model/address.h"

#include "base/error.h"

#include <string.h>

/* One attribute of an address: how it is printed and what it may hold. */
typedef struct {
    const char *name;
    gsize member;
    const char *format; /* printf, of a gint */
    gint max;
} AddressPart;

#define PART(n, m, f, x)                                                                                     \
    {                                                                                                        \
        n, G_STRUCT_OFFSET(ModelAddress, m), f, x                                                            \
    }

static const AddressPart pci_parts[] = {
    PART("domain", domain, "0x%04x", 0xffff),
    PART("bus", bus, "0x%02x", 0xff),
    PART("slot", slot, "0x%02x", 0x1f),
    PART("function", function, "0x%x", 7),
};
static const AddressPart drive_parts[] = {
    PART("controller", controller, "%d", 255),
    PART("bus", bus, "%d", 255),
    PART("target", target, "%d", 255),
    PART("unit", unit, "%d", 16383),
};
static const AddressPart serial_parts[] = {
    PART("controller", controller, "%d", 255),
    PART("bus", bus, "%d", 255),
    PART("port", port, "%d", 255),
};
static const AddressPart usb_parts[] = {
    PART("bus", bus, "%d", 255),
    PART("port", port, "%d", 255),
};

static const struct {
    const char *word;
    const AddressPart *parts;
    gsize n_parts;
} kinds[] = {
    [MODEL_ADDRESS_PCI] = { "pci", pci_parts, G_N_ELEMENTS(pci_parts) },
    [MODEL_ADDRESS_DRIVE] = { "drive", drive_parts, G_N_ELEMENTS(drive_parts) },
    [MODEL_ADDRESS_VIRTIO_SERIAL] = { "virtio-serial", serial_parts, G_N_ELEMENTS(serial_parts) },
    [MODEL_ADDRESS_USB] = { "usb", usb_parts, G_N_ELEMENTS(usb_parts) },
};

static ModelAddressType
kind_of(const char *word)
{
    for (gsize i = MODEL_ADDRESS_PCI; i < G_N_ELEMENTS(kinds); i++)
        if (word && strcmp(kinds[i].word, word) == 0)
            return (ModelAddressType) i;
    return MODEL_ADDRESS_OTHER;
}

/* Attributes that no part knows, children, or not one number: a form that is not ours to understand. */
static gboolean
has_other_form(const XmlNode *node, ModelAddressType type)
{
    gsize known = 0;

    for (const XmlAttr *a = node->attrs; a; a = a->next) {
        gboolean is_part = !a->uri && strcmp(a->name, "type") == 0;
        for (gsize i = 0; i < kinds[type].n_parts && !is_part; i++)
            if (!a->uri && strcmp(a->name, kinds[type].parts[i].name) == 0) {
                is_part = TRUE;
                known++;
            }
        if (!is_part && !(type == MODEL_ADDRESS_PCI && strcmp(a->name, "multifunction") == 0))
            return TRUE;
    }
    const char *port = type == MODEL_ADDRESS_USB ? xml_attr(node, "port") : NULL;
    return known == 0 || node->children || node->spaces || (port && strchr(port, '.'));
}

static gboolean
address_parse(const XmlNode *node, gpointer member, GError **error)
{
    ModelAddress a = { .type = kind_of(xml_attr(node, "type")) };
    const char *multi = xml_attr(node, "multifunction");

    if (a.type == MODEL_ADDRESS_OTHER || has_other_form(node, a.type)) {
        ((ModelAddress *) member)->type = MODEL_ADDRESS_OTHER;
        return FALSE;
    }
    for (gsize i = 0; i < kinds[a.type].n_parts; i++) {
        const AddressPart *part = &kinds[a.type].parts[i];
        const char *text = xml_attr(node, part->name);
        char *end = NULL;
        if (!text)
            continue;
        gint64 n = g_ascii_strtoll(text, &end, g_str_has_prefix(text, "0x") ? 16 : 10);
        if (end == text || *end || n < 0 || n > part->max) {
            return fail(error, KHO_ERROR_INVALID,
                        "line %u: attribute '%s' of <%s> is '%.40s': it must be a number from 0 to %d",
                        node->line, part->name, node->name, text, part->max);
        }
        G_STRUCT_MEMBER(gint, &a, part->member) = (gint) n;
    }
    if (multi && strcmp(multi, "on") != 0 && strcmp(multi, "off") != 0)
        return fail(error, KHO_ERROR_INVALID,
                    "line %u: attribute 'multifunction' of <%s>: it must be on or off", node->line,
                    node->name);
    a.multifunction = !multi                     ? MODEL_SWITCH_UNSET
                      : strcmp(multi, "on") == 0 ? MODEL_SWITCH_ON
                                                 : MODEL_SWITCH_OFF;
    *(ModelAddress *) member = a;
    return TRUE;
}

static void
address_format(XmlWriter *w, const char *name, gconstpointer member)
{
    const ModelAddress *a = member;

    if (a->type == MODEL_ADDRESS_UNSET || a->type == MODEL_ADDRESS_OTHER)
        return;
    xml_writer_open(w, NULL, name);
    xml_writer_attr(w, NULL, "type", kinds[a->type].word);
    for (gsize i = 0; i < kinds[a->type].n_parts; i++) {
        const AddressPart *part = &kinds[a->type].parts[i];
        char room[16];
        g_snprintf(room, sizeof room, part->format, G_STRUCT_MEMBER(gint, a, part->member));
        xml_writer_attr(w, NULL, part->name, room);
    }
    if (a->multifunction != MODEL_SWITCH_UNSET)
        xml_writer_attr(w, NULL, "multifunction", a->multifunction == MODEL_SWITCH_ON ? "on" : "off");
    xml_writer_close(w, NULL, name, NULL);
}

const ModelHook model_address_hook = { address_parse, address_format };
