#include "vm/argv.h"

#include "base/error.h"
#include "model/table.h"
#include "vm/argv_parts.h"

#include <stdarg.h>
#include <string.h>

void
argv_add(Argv *a, const char *option, char *value)
{
    g_ptr_array_add(a->out, g_strdup(option));
    if (value)
        g_ptr_array_add(a->out, value);
}

void
argv_add_json(Argv *a, const char *option, json_t *value)
{
    argv_add(a, option, json_line(value));
    json_decref(value);
}

gboolean
argv_is_word(const char *text)
{
    for (const char *c = text; *c; c++)
        if (!g_ascii_isalnum(*c) && !strchr("._-+:", *c))
            return FALSE;
    return *text != 0;
}

char *
argv_escape(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);

    return g_strjoinv(",,", parts);
}

gboolean
argv_refuse(GError **error, KhoErrorCode code, const ModelNode *node, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    if (node->line == 0)
        return fail(error, code, "<%s> %s", node->table->element, what);
    return fail(error, code, "line %u: <%s> %s", node->line, node->table->element, what);
}

static gboolean
place_on_pci(Argv *a, json_t *device, const ModelAddress *at, const ModelNode *node, GError **error)
{
    g_autofree char *bus =
        at->bus == 0 ? g_strdup(a->q35 ? "pcie.0" : "pci.0") : g_strdup_printf("pci.%d", at->bus);
    g_autofree char *addr = at->function
                                ? g_strdup_printf("0x%x.0x%x", (guint) at->slot, (guint) at->function)
                                : g_strdup_printf("0x%x", (guint) at->slot);

    if (at->domain != 0 || (at->bus != 0 && !argv_controller(a->d, "pci", at->bus)))
        return argv_refuse(
            error, KHO_ERROR_INVALID, node,
            "has an <address> on PCI bus %d, but there is no <controller type='pci' index='%d'/>", at->bus,
            at->bus);
    if (at->multifunction == MODEL_SWITCH_ON)
        json_object_set_new(device, "multifunction", json_true());
    json_object_set_new(device, "bus", json_string(bus));
    json_object_set_new(device, "addr", json_string(addr));
    return TRUE;
}

/* QEMU's rule for ids; "ua-" aliases come from a person. */
static gboolean
is_id(const char *text)
{
    return g_ascii_isalpha(*text) && argv_is_word(text) && !strpbrk(text, "+:") && strlen(text) <= 100;
}

gboolean
argv_add_device(Argv *a, json_t *device, const char *alias, const ModelAddress *address,
                const ModelNode *node, GError **error)
{
    json_auto json_t *owned = device;
    ArgvTier tier = ARGV_REST;

    if (!alias || !is_id(alias))
        return argv_refuse(
            error, KHO_ERROR_INVALID, node,
            "has the alias '%s': an alias is letters, digits, '-', '_' and '.', a letter first",
            alias ? alias : "");
    if (!g_hash_table_add(a->ids, (gpointer) alias))
        return argv_refuse(error, KHO_ERROR_INVALID, node,
                           "has the alias or place '%s', as another device has", alias);
    json_object_set_new(device, "id", json_string(alias));
    if (address && address->type == MODEL_ADDRESS_PCI) {
        const char *driver = json_string_or(device, "driver", "");
        if (!place_on_pci(a, device, address, node, error))
            return FALSE;
        tier = strstr(driver, "pcie-root-port") || strstr(driver, "-bridge") ? ARGV_BUSES : ARGV_PLACED;
    }
    if (address && address->type == MODEL_ADDRESS_OTHER)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, node,
                           "has an <address> of a kind that kho does not give to QEMU");
    g_ptr_array_add(a->devices[tier], json_line(device));
    return TRUE;
}

gint
argv_boot_index(const ModelDomain *d, gint own_order, ModelBootDev kind, gboolean is_first_of_kind)
{
    if (own_order != MODEL_UNSET)
        return own_order;
    for (guint i = 0; i < d->boots->len && is_first_of_kind; i++)
        if (((ModelBoot *) g_ptr_array_index(d->boots, i))->dev == (gint) kind)
            return (gint) i + 1;
    return 0;
}

/* ---- what must not be left out ---- */

gboolean
argv_check_unknown(const ModelDomain *d, GError **error)
{
    static const char *const matters[] = { "/os",        "/cpu",           "/features",
                                           "/clock",     "/devices",       "/pm",
                                           "/maxMemory", "/vcpus",         "/launchSecurity",
                                           "/sysinfo",   "/genid",         "/memory",
                                           "/vcpu",      "/memoryBacking", "/iothreads" };
    static const char qemu_space[] = "http://libvirt.org/schemas/domain/qemu/1.0"; /* raw arguments */
    g_autoptr(GPtrArray) unknown = model_table_unknown(&d->node);

    for (guint i = 0; i < unknown->len; i++) {
        const ModelUnknown *u = g_ptr_array_index(unknown, i);
        if (strcmp(u->path, "/devices/audio") == 0 && g_strcmp0(xml_attr(u->node, "type"), "none") == 0)
            continue; /* no sound at all: so it is */
        gboolean left_out = u->node && g_strcmp0(u->node->uri, qemu_space) == 0;
        for (gsize m = 0; m < G_N_ELEMENTS(matters) && !left_out; m++) {
            gsize len = strlen(matters[m]);
            left_out = strncmp(u->path, matters[m], len) == 0 && strchr("/@", u->path[len]); /* or its end */
        }
        if (left_out) {
            g_autofree char *what = model_unknown_text(u, "domain");
            return fail(error, KHO_ERROR_UNSUPPORTED,
                        "%s is not something that kho can give to QEMU: remove it to start", what);
        }
    }
    return TRUE;
}

/* ---- the whole ---- */

static void
add_head(Argv *a)
{
    g_autofree char *name = argv_escape(a->d->name);

    argv_add(a, a->d->emulator, NULL);
    argv_add(a, "-name", g_strdup_printf("guest=%s,debug-threads=on", name));
    argv_add(a, "-S", NULL);
    argv_add(a, "-no-user-config", NULL);
    argv_add(a, "-nodefaults", NULL);
    argv_add(a, "-no-shutdown", NULL);
    argv_add(a, "-action", g_strdup("panic=pause"));
    argv_add(a, "-uuid", g_strdup(a->d->uuid));
}

static void
add_tail(Argv *a)
{
    for (gsize tier = 0; tier < ARGV_TIERS; tier++)
        for (guint i = 0; i < a->devices[tier]->len; i++)
            argv_add(a, "-device", g_strdup(g_ptr_array_index(a->devices[tier], i)));
    argv_add(a, "-chardev",
             g_strdup_printf("socket,id=charmonitor,fd=%d,server=on,wait=off", a->r->monitor_fd));
    argv_add(a, "-mon", g_strdup("chardev=charmonitor,id=monitor,mode=control"));
    if (a->r->incoming)
        argv_add(a, "-incoming", g_strdup("defer"));
    argv_add(a, "-sandbox",
             g_strdup("on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"));
    g_ptr_array_add(a->out, NULL);
}

static gboolean
add_all(Argv *a, GError **error)
{
    add_head(a);
    if (!argv_add_machine(a, error) || !argv_add_controllers(a, error) || !argv_add_disks(a, error)
        || !argv_add_devices(a, error) || !argv_add_display(a, error))
        return FALSE;
    if (!argv_check_unknown(a->d, error))
        return FALSE;
    add_tail(a);
    return TRUE;
}

static void
argv_begin(Argv *a, const ModelDomain *domain, const VmResources *resources)
{
    g_assert(domain->machine && domain->emulator && domain->uuid && resources->n_disks == domain->disks->len);
    *a = (Argv){ .d = domain, .r = resources, .out = g_ptr_array_new_with_free_func(g_free) };
    a->q35 = strcmp(domain->machine, "q35") == 0 || g_str_has_prefix(domain->machine, "pc-q35-");
    a->ids = g_hash_table_new(g_str_hash, g_str_equal);
    for (gsize i = 0; i < ARGV_TIERS; i++)
        a->devices[i] = g_ptr_array_new_with_free_func(g_free);
}

static void
argv_end(Argv *a)
{
    if (a->out)
        g_ptr_array_unref(a->out);
    for (gsize i = 0; i < ARGV_TIERS; i++)
        g_ptr_array_unref(a->devices[i]);
    g_hash_table_unref(a->ids);
}

char **
vm_argv_build(const ModelDomain *domain, const VmResources *resources, GError **error)
{
    char **argv = NULL;
    Argv a;

    argv_begin(&a, domain, resources);
    if (add_all(&a, error))
        argv = (char **) g_ptr_array_free(g_steal_pointer(&a.out), FALSE);
    argv_end(&a);
    return argv;
}

/* What was put into the vector as text is read back: QEMU takes the same JSON by either way. */
static json_t *
read_back(const char *text)
{
    json_t *value = json_parse(text, strlen(text), "an argument of QEMU", NULL);
    g_assert(value);
    return value;
}

gboolean
vm_argv_disk(const ModelDomain *domain, const VmResources *resources, gsize disk, json_t **nodes,
             json_t **device, GError **error)
{
    const ModelDisk *d = domain->disks->pdata[disk];
    Argv a;

    argv_begin(&a, domain, resources);
    gboolean made = argv_add_disk(&a, disk, d->boot_order == MODEL_UNSET ? 0 : d->boot_order, error);
    if (made) {
        *nodes = json_array();
        for (guint i = 0; i + 1 < a.out->len; i += 2)
            if (strcmp(a.out->pdata[i], "-blockdev") == 0)
                json_array_append_new(*nodes, read_back(a.out->pdata[i + 1]));
        const GPtrArray *devices =
            a.devices[ARGV_PLACED]->len ? a.devices[ARGV_PLACED] : a.devices[ARGV_REST];
        *device = read_back(devices->pdata[0]);
    }
    argv_end(&a);
    return made;
}

gboolean
vm_argv_check(const ModelDomain *domain, GError **error)
{
    g_autoptr(ModelDomain) live = model_domain_copy(domain);
    static const VmLayer layer = { .fd = 3, .fdset = 0, .format = "raw" };
    g_autofree VmDisk *disks = g_new0(VmDisk, live->disks->len + 1);
    VmResources any = {
        .monitor_fd = 3, .kvm = TRUE, .vnc_port = 5900, .disks = disks, .n_disks = live->disks->len
    };

    for (guint i = 0; i < live->disks->len; i++)
        if (((ModelDisk *) g_ptr_array_index(live->disks, i))->source_file)
            disks[i] = (VmDisk){ &layer, 1 };
    model_domain_assign_aliases(live);
    g_auto(GStrv) argv = vm_argv_build(live, &any, error);
    return argv != NULL;
}
