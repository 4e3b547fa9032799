/* From what a person wrote to the definition that is stored: defaults, and the rules that span elements. */
#include "base/error.h"
#include "model/device_table.h"
#include "model/domain.h"
#include "model/place.h"

#include <string.h>

static void
fill(char **member, const char *fallback)
{
    if (!*member)
        *member = g_strdup(fallback);
}

static void
strip_alias(char **alias)
{
    if (*alias && !g_str_has_prefix(*alias, "ua-"))
        g_clear_pointer(alias, g_free);
}

static void
strip_chardevs(GPtrArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        ModelChardev *c = g_ptr_array_index(list, i);
        strip_alias(&c->alias);
        g_clear_pointer(&c->tty, g_free);
        if (c->type == MODEL_CHARDEV_PTY)
            g_clear_pointer(&c->source_path, g_free);
    }
}

#define STRIP_ALIASES(T, list)                                                                               \
    for (guint i_ = 0; i_ < (list)->len; i_++)                                                               \
    strip_alias(&((T *) g_ptr_array_index(list, i_))->alias)

void
model_domain_strip_live(ModelDomain *d)
{
    d->id = MODEL_UNSET;
    STRIP_ALIASES(ModelDisk, d->disks);
    STRIP_ALIASES(ModelController, d->controllers);
    STRIP_ALIASES(ModelInterface, d->interfaces);
    STRIP_ALIASES(ModelInput, d->inputs);
    STRIP_ALIASES(ModelVideo, d->videos);
    STRIP_ALIASES(ModelBalloon, d->balloons);
    STRIP_ALIASES(ModelRng, d->rngs);
    STRIP_ALIASES(ModelPanic, d->panics);
    strip_chardevs(d->serials);
    strip_chardevs(d->consoles);
    strip_chardevs(d->channels);
    for (guint i = 0; i < d->graphics->len; i++) {
        ModelGraphics *g = g_ptr_array_index(d->graphics, i);
        if (g->autoport == MODEL_SWITCH_ON && g->port != MODEL_UNSET)
            g->port = -1;
    }
}

/* ---- disks ---- */

static ModelBus
bus_of_target(const char *target)
{
    static const struct {
        const char *prefix;
        ModelBus bus;
    } prefixes[] = { { "hd", MODEL_BUS_IDE },  { "sd", MODEL_BUS_SCSI }, { "vd", MODEL_BUS_VIRTIO },
                     { "xvd", MODEL_BUS_XEN }, { "ubd", MODEL_BUS_UML }, { "fd", MODEL_BUS_FDC } };

    for (gsize i = 0; i < G_N_ELEMENTS(prefixes); i++)
        if (g_str_has_prefix(target, prefixes[i].prefix))
            return prefixes[i].bus;
    return MODEL_BUS_UNSET;
}

static gboolean
complete_disk(ModelDisk *disk, GError **error)
{
    guint line = disk->node.line;

    if (disk->type == MODEL_SOURCE_UNSET)
        disk->type = MODEL_SOURCE_FILE;
    if (disk->device == MODEL_DISK_UNSET)
        disk->device = MODEL_DISK_DISK;
    fill(&disk->driver, "qemu");
    if (disk->type != MODEL_SOURCE_VOLUME)
        fill(&disk->format, "raw");
    if (disk->device == MODEL_DISK_CDROM)
        disk->readonly = TRUE;
    if (!disk->target || !*disk->target)
        return fail(error, KHO_ERROR_INVALID,
                    "line %u: <disk> has no <target dev='...'/>: name it, as in dev='vda'", line);
    if (model_target_index(disk->target) < 0)
        return fail(error, KHO_ERROR_INVALID,
                    "line %u: attribute 'dev' of <target> is '%.40s': it must be vd, sd, hd or fd and a "
                    "letter, as in 'vda'",
                    line, disk->target);
    if (disk->bus == MODEL_BUS_UNSET)
        disk->bus = bus_of_target(disk->target);
    if (disk->device == MODEL_DISK_FLOPPY && disk->bus != MODEL_BUS_FDC)
        return fail(error, KHO_ERROR_INVALID,
                    "line %u: a floppy is on bus 'fdc', and its target is 'fda' or 'fdb'", line);
    if (disk->type == MODEL_SOURCE_FILE && !disk->source_file && disk->device != MODEL_DISK_CDROM
        && disk->device != MODEL_DISK_FLOPPY)
        return fail(
            error, KHO_ERROR_INVALID,
            "line %u: <disk> '%s' has no <source file='...'/>: only drives with removable media may be empty",
            line, disk->target);
    if (disk->source_file && !g_path_is_absolute(disk->source_file))
        return fail(error, KHO_ERROR_INVALID,
                    "line %u: attribute 'file' of <source> is '%.200s': it must be an absolute path", line,
                    disk->source_file);
    return TRUE;
}

static gboolean
complete_disks(ModelDomain *d, GError **error)
{
    g_autoptr(GHashTable) targets = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < d->disks->len; i++) {
        ModelDisk *disk = g_ptr_array_index(d->disks, i);
        if (!complete_disk(disk, error))
            return FALSE;
        if (!g_hash_table_add(targets, disk->target))
            return fail(error, KHO_ERROR_INVALID,
                        "line %u: a second <disk> with target '%s': targets must differ", disk->node.line,
                        disk->target);
    }
    return TRUE;
}

/* ---- interfaces ---- */

static gboolean
mac_is_good(const char *mac)
{
    if (strlen(mac) != 17)
        return FALSE;
    for (guint i = 0; i < 17; i++)
        if (i % 3 == 2 ? mac[i] != ':' : !g_ascii_isxdigit(mac[i]))
            return FALSE;
    return g_ascii_xdigit_value(mac[1]) % 2 == 0; /* odd: multicast */
}

static gboolean
complete_interface(ModelInterface *nic, GError **error)
{
    if (nic->type == MODEL_NIC_UNSET)
        return fail(error, KHO_ERROR_INVALID, "line %u: <interface> has no attribute 'type': give user",
                    nic->node.line);
    if (!nic->mac)
        nic->mac = g_strdup_printf("52:54:00:%02x:%02x:%02x", g_random_int() & 0xff, g_random_int() & 0xff,
                                   g_random_int() & 0xff);
    if (!mac_is_good(nic->mac))
        return fail(error, KHO_ERROR_INVALID,
                    "line %u: attribute 'address' of <mac> is '%.40s': it must be a unicast address, as in "
                    "52:54:00:12:34:56",
                    nic->node.line, nic->mac);
    g_autofree char *given = nic->mac;
    nic->mac = g_ascii_strdown(given, -1);
    fill(&nic->model, "rtl8139");
    return TRUE;
}

/* ---- serial lines ---- */

/* The first console that is not a virtio one is the first serial line seen once more. */
static void
mirror_serial(ModelDomain *d)
{
    ModelChardev *console = d->consoles->len ? g_ptr_array_index(d->consoles, 0) : NULL;

    if (console && g_strcmp0(console->target_type, "virtio") == 0)
        return;
    if (!d->serials->len && !console)
        return;
    if (!d->serials->len) {
        ModelChardev *serial = model_node_new(&model_serial_table);
        serial->type = console->type;
        serial->source_path = g_strdup(console->source_path);
        serial->source_mode = g_strdup(console->source_mode);
        serial->append = console->append;
        serial->alias = g_strdup(console->alias);
        g_ptr_array_add(d->serials, serial);
    }
    const ModelChardev *serial = g_ptr_array_index(d->serials, 0);
    if (!console) {
        console = model_node_new(&model_console_table);
        g_ptr_array_insert(d->consoles, 0, console);
    }
    console->type = serial->type;
    g_free(console->source_path);
    console->source_path = g_strdup(serial->source_path);
    g_free(console->source_mode);
    console->source_mode = g_strdup(serial->source_mode);
    console->append = serial->append;
    fill(&console->target_type, "serial");
    console->target_port = 0;
}

static gboolean
complete_chardevs(GPtrArray *list, const char *target_type, GError **error)
{
    for (guint i = 0; i < list->len; i++) {
        ModelChardev *c = g_ptr_array_index(list, i);
        const char *name = c->node.table->element;
        if (c->type == MODEL_CHARDEV_UNSET)
            return fail(error, KHO_ERROR_INVALID, "line %u: <%s> has no attribute 'type': give pty or file",
                        c->node.line, name);
        if (c->type == MODEL_CHARDEV_FILE && (!c->source_path || !g_path_is_absolute(c->source_path)))
            return fail(error, KHO_ERROR_INVALID,
                        "line %u: <%s> of type 'file' has no <source path='...'/> with an absolute path",
                        c->node.line, name);
        if (!target_type) {
            if (!c->target_type)
                return fail(error, KHO_ERROR_INVALID, "line %u: <%s> has no <target type='virtio'/>",
                            c->node.line, name);
            continue;
        }
        fill(&c->target_type, target_type);
        if (c->target_port == MODEL_UNSET)
            c->target_port = (gint) MIN(i, 255);
        if (strcmp(c->target_type, "isa-serial") == 0)
            fill(&c->target_model, "isa-serial");
    }
    return TRUE;
}

/* ---- graphics, video, balloon, rng ---- */

static gboolean
complete_graphics(ModelGraphics *g, GError **error)
{
    if (!g->type)
        return fail(error, KHO_ERROR_INVALID, "line %u: <graphics> has no attribute 'type': give vnc",
                    g->node.line);
    if (strcmp(g->type, "vnc") != 0)
        return TRUE;
    if (g->port != MODEL_UNSET && g->port >= 0 && g->port < 5900 && g->autoport != MODEL_SWITCH_ON)
        return fail(error, KHO_ERROR_INVALID,
                    "line %u: attribute 'port' of <graphics> is '%d': it must be -1 or from 5900 to 65535",
                    g->node.line, g->port);
    if (g->port == MODEL_UNSET || g->port == -1 || g->autoport == MODEL_SWITCH_ON) {
        g->port = -1;
        g->autoport = MODEL_SWITCH_ON;
    } else {
        g->autoport = MODEL_SWITCH_OFF;
    }
    if (!g->listens->len) {
        ModelListen *l = model_node_new(&model_listen_table);
        l->type = g_strdup("address");
        g_ptr_array_add(g->listens, l);
    }
    ModelListen *first = g_ptr_array_index(g->listens, 0);
    fill(&first->type, "address");
    if (strcmp(first->type, "address") != 0)
        return TRUE;
    if (first->address && g->listen && strcmp(first->address, g->listen) != 0)
        return fail(
            error, KHO_ERROR_INVALID,
            "line %u: attribute 'listen' of <graphics> is '%.80s' but its <listen> has the address '%.80s'",
            g->node.line, g->listen, first->address);
    if (g->listen)
        fill(&first->address, g->listen);
    else
        g->listen = g_strdup(first->address);
    return TRUE;
}

static void
complete_videos(ModelDomain *d)
{
    if (d->graphics->len && !d->videos->len) {
        ModelVideo *v = model_node_new(&model_video_table);
        v->model = g_strdup("cirrus");
        g_ptr_array_add(d->videos, v);
    }
    for (guint i = 0; i < d->videos->len; i++) {
        ModelVideo *v = g_ptr_array_index(d->videos, i);
        fill(&v->model, "cirrus");
        gboolean plain = strcmp(v->model, "cirrus") == 0 || strcmp(v->model, "vga") == 0;
        if (plain && v->vram_kib == MODEL_UNSET)
            v->vram_kib = 16384;
        if (strcmp(v->model, "none") != 0 && v->heads == MODEL_UNSET)
            v->heads = 1;
        if (i == 0 && strcmp(v->model, "none") != 0 && v->primary == MODEL_SWITCH_UNSET)
            v->primary = MODEL_SWITCH_ON;
    }
}

static gboolean
complete_small_devices(ModelDomain *d, GError **error)
{
    if (!d->balloons->len) {
        ModelBalloon *b = model_node_new(&model_balloon_table);
        b->model = g_strdup("virtio");
        g_ptr_array_add(d->balloons, b);
    }
    ModelBalloon *balloon = g_ptr_array_index(d->balloons, 0);
    fill(&balloon->model, "virtio");
    if (d->balloons->len > 1)
        return fail(error, KHO_ERROR_INVALID, "line %u: a second <memballoon>: only one is allowed",
                    ((ModelNode *) g_ptr_array_index(d->balloons, 1))->line);
    for (guint i = 0; i < d->rngs->len; i++) {
        ModelRng *r = g_ptr_array_index(d->rngs, i);
        fill(&r->model, "virtio");
        fill(&r->backend_model, "random");
        if (strcmp(r->backend_model, "random") == 0 && (!r->backend_path || !*r->backend_path)) {
            g_free(r->backend_path);
            r->backend_path = g_strdup("/dev/random");
        }
    }
    for (guint i = 0; i < d->panics->len; i++)
        fill(&((ModelPanic *) g_ptr_array_index(d->panics, i))->model, "isa");
    for (guint i = 0; i < d->inputs->len; i++) {
        ModelInput *in = g_ptr_array_index(d->inputs, i);
        if (!in->type)
            return fail(error, KHO_ERROR_INVALID,
                        "line %u: <input> has no attribute 'type': give mouse, keyboard or tablet",
                        in->node.line);
        fill(&in->bus, strcmp(in->type, "tablet") == 0 ? "usb" : "ps2");
    }
    return TRUE;
}

/* ---- controllers ---- */

static gboolean
complete_controllers(ModelDomain *d, GError **error)
{
    g_autoptr(GHashTable) taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint pass = 0; pass < 2; pass++) {
        for (guint i = 0; i < d->controllers->len; i++) {
            ModelController *c = g_ptr_array_index(d->controllers, i);
            if (!c->type || !*c->type)
                return fail(error, KHO_ERROR_INVALID,
                            "line %u: <controller> has no attribute 'type': give scsi, usb, virtio-serial, "
                            "ide, sata or pci",
                            c->node.line);
            if ((c->index == MODEL_UNSET) != (pass == 1))
                continue;
            /* usb controllers of one index are one: a host and its companions. */
            for (gint n = pass == 1 ? 0 : c->index;; n++) {
                if (g_hash_table_add(taken, g_strdup_printf("%s %d", c->type, n))) {
                    c->index = n;
                    break;
                }
                if (pass == 0 && strcmp(c->type, "usb") == 0)
                    break;
                if (pass == 0)
                    return fail(error, KHO_ERROR_INVALID,
                                "line %u: a second <controller type='%s' index='%d'>: indexes must differ",
                                c->node.line, c->type, n);
            }
        }
    }
    for (guint i = 0; i < d->controllers->len; i++) {
        ModelController *c = g_ptr_array_index(d->controllers, i);
        if (strcmp(c->type, "scsi") == 0)
            fill(&c->model, "lsilogic");
    }
    return TRUE;
}

static void
need_controller(ModelDomain *d, const char *type, gint index, const char *model)
{
    for (guint i = 0; i < d->controllers->len; i++) {
        const ModelController *c = g_ptr_array_index(d->controllers, i);
        if (strcmp(c->type, type) == 0 && c->index == index)
            return;
    }
    ModelController *c = model_node_new(&model_controller_table);
    c->type = g_strdup(type);
    c->index = index;
    c->model = g_strdup(model);
    g_ptr_array_add(d->controllers, c);
}

static void
add_controllers(ModelDomain *d)
{
    for (guint i = 0; i < d->disks->len; i++) {
        const ModelDisk *disk = g_ptr_array_index(d->disks, i);
        ModelPlace at = model_disk_place(disk);
        if (disk->bus == MODEL_BUS_SCSI)
            need_controller(d, "scsi", at.controller, "lsilogic");
        if (disk->bus == MODEL_BUS_SATA)
            need_controller(d, "sata", at.controller, NULL);
        if (disk->bus == MODEL_BUS_USB)
            need_controller(d, "usb", at.bus, NULL);
    }
    for (guint i = 0; i < d->inputs->len; i++)
        if (strcmp(((ModelInput *) g_ptr_array_index(d->inputs, i))->bus, "usb") == 0)
            need_controller(d, "usb", 0, NULL);
    for (guint i = 0; i < d->channels->len; i++)
        if (g_strcmp0(((ModelChardev *) g_ptr_array_index(d->channels, i))->target_type, "virtio") == 0)
            need_controller(d, "virtio-serial", 0, NULL);
    for (guint i = 0; i < d->consoles->len; i++)
        if (g_strcmp0(((ModelChardev *) g_ptr_array_index(d->consoles, i))->target_type, "virtio") == 0)
            need_controller(d, "virtio-serial", 0, NULL);
}

/* ---- the machine itself ---- */

static gboolean
complete_boot(ModelDomain *d, GError **error)
{
    gboolean by_device = FALSE;

    for (guint i = 0; i < d->disks->len; i++)
        by_device |= ((ModelDisk *) g_ptr_array_index(d->disks, i))->boot_order != MODEL_UNSET;
    for (guint i = 0; i < d->interfaces->len; i++)
        by_device |= ((ModelInterface *) g_ptr_array_index(d->interfaces, i))->boot_order != MODEL_UNSET;
    for (guint i = 0; i < d->boots->len; i++) {
        const ModelBoot *b = g_ptr_array_index(d->boots, i);
        if (b->dev == MODEL_BOOT_UNSET)
            return fail(error, KHO_ERROR_INVALID,
                        "line %u: <boot> has no attribute 'dev': give hd, cdrom, network or fd",
                        b->node.line);
        if (by_device)
            return fail(
                error, KHO_ERROR_INVALID,
                "line %u: <boot dev='...'/> under <os> and <boot order='...'/> of devices exclude each other",
                b->node.line);
    }
    if (!by_device && !d->boots->len) {
        ModelBoot *b = model_node_new(&model_boot_table);
        b->dev = MODEL_BOOT_HD;
        g_ptr_array_add(d->boots, b);
    }
    return TRUE;
}

static gboolean
complete_cpu(ModelDomain *d, GError **error)
{
    gboolean has_topology = d->sockets != MODEL_UNSET || d->cores != MODEL_UNSET || d->threads != MODEL_UNSET
                            || d->dies != MODEL_UNSET;
    gint64 product;

    if (d->cpu_mode == MODEL_CPU_UNSET && (d->cpu_model || d->cpu_features->len))
        d->cpu_mode = MODEL_CPU_CUSTOM;
    if (d->cpu_mode == MODEL_CPU_CUSTOM && d->cpu_model) {
        fill(&d->cpu_match, "exact");
        fill(&d->cpu_check, "none");
        fill(&d->cpu_fallback, "allow");
    }
    if (d->cpu_mode == MODEL_CPU_HOST_MODEL)
        fill(&d->cpu_check, "partial");
    if (d->cpu_mode == MODEL_CPU_HOST_PASSTHROUGH || d->cpu_mode == MODEL_CPU_MAXIMUM)
        fill(&d->cpu_check, "none");
    if (d->cpu_mode == MODEL_CPU_HOST_PASSTHROUGH && d->cpu_migratable == MODEL_SWITCH_UNSET)
        d->cpu_migratable = MODEL_SWITCH_ON;
    for (guint i = 0; i < d->cpu_features->len; i++) {
        ModelCpuFeature *f = g_ptr_array_index(d->cpu_features, i);
        if (!f->name || !*f->name)
            return fail(error, KHO_ERROR_INVALID, "line %u: <feature> under <cpu> has no attribute 'name'",
                        f->node.line);
        if (f->policy == MODEL_POLICY_UNSET)
            f->policy = MODEL_POLICY_REQUIRE;
    }
    if (!has_topology)
        return TRUE;
    gint *parts[] = { &d->sockets, &d->dies, &d->cores, &d->threads };
    product = 1;
    for (gsize i = 0; i < G_N_ELEMENTS(parts); i++) {
        if (*parts[i] == MODEL_UNSET)
            *parts[i] = 1;
        product *= *parts[i]; /* at most 4096^4 = 2^48 */
    }
    if (product != d->vcpus)
        return fail(error, KHO_ERROR_INVALID,
                    "line %u: <topology> has %" G_GINT64_FORMAT
                    " processors, but <vcpu> is %d: make them equal",
                    d->topology_line, product, d->vcpus);
    return TRUE;
}

static gboolean
complete_machine(ModelDomain *d, const ModelDefaults *defaults, GError **error)
{
    if (!d->uuid)
        d->uuid = g_uuid_string_random();
    if (d->current_memory_kib == 0 || d->current_memory_kib > d->memory_kib)
        d->current_memory_kib = d->memory_kib;
    if (d->vcpus == MODEL_UNSET)
        d->vcpus = 1;
    fill(&d->vcpu_placement, "static");
    if (d->current_vcpus != MODEL_UNSET && d->current_vcpus > d->vcpus)
        return fail(
            error, KHO_ERROR_INVALID,
            "line %u: attribute 'current' of <vcpu> is '%d': it must be at most %d, the number of vcpus",
            d->vcpu_line, d->current_vcpus, d->vcpus);
    if (d->current_vcpus == d->vcpus)
        d->current_vcpus = MODEL_UNSET;
    fill(&d->arch, defaults->arch);
    fill(&d->machine, defaults->machine);
    fill(&d->emulator, defaults->emulator);
    if (d->clock_offset == MODEL_CLOCK_UNSET)
        d->clock_offset = MODEL_CLOCK_UTC;
    if (d->on_poweroff == MODEL_ACTION_UNSET)
        d->on_poweroff = MODEL_ACTION_DESTROY;
    if (d->on_reboot == MODEL_ACTION_UNSET)
        d->on_reboot = MODEL_ACTION_RESTART;
    if (d->on_crash == MODEL_ACTION_UNSET)
        d->on_crash = MODEL_ACTION_DESTROY;
    return complete_boot(d, error) && complete_cpu(d, error);
}

gboolean
model_domain_complete(ModelDomain *d, const ModelDefaults *defaults, GError **error)
{
    model_domain_strip_live(d);
    if (!complete_machine(d, defaults, error) || !complete_disks(d, error))
        return FALSE;
    for (guint i = 0; i < d->interfaces->len; i++)
        if (!complete_interface(g_ptr_array_index(d->interfaces, i), error))
            return FALSE;
    if (!complete_chardevs(d->serials, "isa-serial", error)
        || !complete_chardevs(d->consoles, "serial", error) || !complete_chardevs(d->channels, NULL, error))
        return FALSE;
    mirror_serial(d);
    if (!complete_chardevs(d->serials, "isa-serial", error))
        return FALSE;
    for (guint i = 0; i < d->graphics->len; i++)
        if (!complete_graphics(g_ptr_array_index(d->graphics, i), error))
            return FALSE;
    complete_videos(d);
    if (!complete_small_devices(d, error) || !complete_controllers(d, error))
        return FALSE;
    add_controllers(d);
    return TRUE;
}
