/* The live XML: the definition that was started, with the ptys and ports that QEMU chose. */
#include "base/error.h"
#include "base/num.h"
#include "model/domain.h"
#include "supervisor/supervisor.h"
#include "vm/folder.h"

#include <string.h>

/* "/dev/pts/3" of the chardev that vm/argv.c named after @alias; NULL where it is no pty. */
static const char *
pty_of(const json_t *chardevs, const char *alias)
{
    g_autofree char *label = g_strdup_printf("char%s", alias);
    gsize i;
    json_t *row;

    json_array_foreach (chardevs, i, row) {
        const char *filename = json_string_or(row, "filename", "");
        if (strcmp(json_string_or(row, "label", ""), label) == 0 && g_str_has_prefix(filename, "pty:"))
            return filename + strlen("pty:");
    }
    return NULL;
}

static void
set_ptys(const GPtrArray *devices, const json_t *chardevs)
{
    for (guint i = 0; i < devices->len; i++) {
        ModelChardev *dev = devices->pdata[i];
        const char *pty = dev->type == MODEL_CHARDEV_PTY && dev->alias ? pty_of(chardevs, dev->alias) : NULL;
        if (!pty)
            continue;
        g_free(dev->source_path);
        dev->source_path = g_strdup(pty);
    }
}

/* The first console is the first serial port seen from the other side. */
static void
set_consoles(ModelDomain *domain, const json_t *chardevs)
{
    set_ptys(domain->consoles, chardevs);
    for (guint i = 0; i < domain->consoles->len; i++) {
        ModelChardev *console = domain->consoles->pdata[i];
        const ModelChardev *serial = i == 0 && domain->serials->len > 0 ? domain->serials->pdata[0] : NULL;
        if (serial && !console->source_path && console->type == MODEL_CHARDEV_PTY)
            console->source_path = g_strdup(serial->source_path);
        if (console->type == MODEL_CHARDEV_PTY) {
            g_free(console->tty);
            console->tty = g_strdup(console->source_path);
        }
    }
}

static void
set_port(ModelDomain *domain, const json_t *vnc)
{
    const char *service = json_string_or(vnc, "service", "");
    guint64 port;

    if (!json_is_true(json_object_get(vnc, "enabled")) || domain->graphics->len == 0
        || !num_parse_uint(service, 65535, "port", &port, NULL))
        return;
    ((ModelGraphics *) domain->graphics->pdata[0])->port = (gint) port;
}

char *
live_xml_complete(const char *xml, const json_t *chardevs, const json_t *vnc, GError **error)
{
    g_autoptr(ModelDomain) domain = model_domain_parse(xml, strlen(xml), error);

    if (!domain)
        return NULL;
    set_ptys(domain->serials, chardevs);
    set_ptys(domain->channels, chardevs);
    set_consoles(domain, chardevs);
    set_port(domain, vnc);
    return model_domain_format(domain, MODEL_FORMAT_LIVE);
}

gboolean
live_xml_replace(Supervisor *s, const json_t *arguments, GError **error)
{
    g_autofree char *xml = NULL;

    if (!json_get_string(arguments, "xml", "kho-live-xml", &xml, error))
        return FALSE;
    g_autoptr(ModelDomain) domain = model_domain_parse(xml, strlen(xml), error);
    if (!domain)
        return FALSE;
    if (g_strcmp0(domain->uuid, s->status->uuid) != 0 || strcmp(domain->name, s->status->name) != 0)
        return fail(error, KHO_ERROR_INVALID, "kho-live-xml: the XML is of machine '%s' with uuid %s",
                    domain->name, domain->uuid ? domain->uuid : "none");
    return vm_folder_write(s->folder, VM_FILE_LIVE_XML, xml, error);
}

gboolean
live_xml_drop_disk(Supervisor *s, const char *alias, GError **error)
{
    gsize len;
    g_autofree char *xml = vm_folder_read(s->folder, VM_FILE_LIVE_XML, &len, error);
    g_autoptr(ModelDomain) domain = xml ? model_domain_parse(xml, len, error) : NULL;

    if (!domain)
        return FALSE;
    for (guint i = 0; i < domain->disks->len; i++) {
        const ModelDisk *disk = domain->disks->pdata[i];
        if (g_strcmp0(disk->alias, alias) != 0)
            continue;
        g_ptr_array_remove_index(domain->disks, i);
        g_autofree char *text = model_domain_format(domain, MODEL_FORMAT_LIVE);
        return vm_folder_write(s->folder, VM_FILE_LIVE_XML, text, error);
    }
    return TRUE;
}
