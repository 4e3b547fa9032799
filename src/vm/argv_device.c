/* Interfaces, serial lines, input, random numbers, balloon, graphics and video. */
#include "base/error.h"
#include "vm/argv_parts.h"

#include <string.h>

/* The device hangs on the first controller of that kind. */
static gboolean
set_bus(const Argv *a, json_t *device, const char *type, const ModelNode *node, GError **error)
{
    const ModelController *c = argv_controller(a->d, type, 0);

    if (!c || g_strcmp0(c->model, "none") == 0)
        return argv_refuse(error, KHO_ERROR_INVALID, node, "needs a <controller type='%s' index='0'/>", type);
    g_autofree char *bus = g_strdup_printf("%s.0", c->alias);
    json_object_set_new(device, "bus", json_string(bus));
    return TRUE;
}

/* ---- interfaces ---- */

static const struct {
    const char *model, *device;
} nics[] = {
    { "virtio", "virtio-net-pci" }, { "rtl8139", "rtl8139" },   { "e1000", "e1000" },
    { "e1000e", "e1000e" },         { "ne2k_pci", "ne2k_pci" }, { "pcnet", "pcnet" },
    { "vmxnet3", "vmxnet3" },
};

static gboolean
add_interface(Argv *a, guint index, GError **error)
{
    const ModelInterface *nic = g_ptr_array_index(a->d->interfaces, index);
    const char *model = NULL;

    if (nic->type != MODEL_NIC_USER)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &nic->node,
                           "%s is of type '%s': only 'user' can run", nic->mac,
                           model_nic_type_word(nic->type));
    for (gsize i = 0; i < G_N_ELEMENTS(nics); i++)
        if (strcmp(nics[i].model, nic->model) == 0)
            model = nics[i].device;
    if (!model)
        return argv_refuse(
            error, KHO_ERROR_UNSUPPORTED, &nic->node,
            "%s has the model '%s': virtio, rtl8139, e1000, e1000e, ne2k_pci, pcnet and vmxnet3 can run",
            nic->mac, nic->model);

    g_autofree char *netdev = g_strdup_printf("host%s", nic->alias);
    gint boot = argv_boot_index(a->d, nic->boot_order, MODEL_BOOT_NETWORK, index == 0);
    argv_add_json(a, "-netdev", json_pack("{s:s,s:s}", "type", "user", "id", netdev));
    json_t *device = json_pack("{s:s,s:s,s:s}", "driver", model, "netdev", netdev, "mac", nic->mac);
    if (boot)
        json_object_set_new(device, "bootindex", json_integer(boot));
    return argv_add_device(a, device, nic->alias, &nic->address, &nic->node, error);
}

/* ---- serial lines ---- */

static gboolean
add_chardev(Argv *a, const ModelChardev *c, GError **error)
{
    g_autofree char *path = argv_escape(c->source_path ? c->source_path : "");

    switch (c->type) {
    case MODEL_CHARDEV_PTY: argv_add(a, "-chardev", g_strdup_printf("pty,id=char%s", c->alias)); return TRUE;
    case MODEL_CHARDEV_NULL:
        argv_add(a, "-chardev", g_strdup_printf("null,id=char%s", c->alias));
        return TRUE;
    case MODEL_CHARDEV_FILE:
        argv_add(a, "-chardev",
                 g_strdup_printf("file,id=char%s,path=%s,append=%s", c->alias, path,
                                 c->append == MODEL_SWITCH_ON ? "on" : "off"));
        return TRUE;
    default:
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &c->node,
                           "is of type '%s': only pty, file and null can run",
                           model_chardev_type_word(c->type));
    }
}

static gboolean
add_serial(Argv *a, const ModelChardev *c, GError **error)
{
    if (strcmp(c->target_type, "isa-serial") != 0 && strcmp(c->target_type, "isa") != 0)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &c->node,
                           "has the target type '%s': only 'isa-serial' can run", c->target_type);
    if (c->target_model && strcmp(c->target_model, "isa-serial") != 0)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &c->node,
                           "has the target model '%s': only 'isa-serial' can run", c->target_model);
    if (c->target_port > 3)
        return argv_refuse(error, KHO_ERROR_INVALID, &c->node,
                           "has port %d: a machine has serial ports 0 to 3", c->target_port);
    if (!add_chardev(a, c, error))
        return FALSE;
    g_autofree char *chardev = g_strdup_printf("char%s", c->alias);
    return argv_add_device(
        a, json_pack("{s:s,s:s,s:i}", "driver", "isa-serial", "chardev", chardev, "index", c->target_port),
        c->alias, NULL, &c->node, error);
}

static gboolean
add_console(Argv *a, guint index, GError **error)
{
    const ModelChardev *c = g_ptr_array_index(a->d->consoles, index);
    gboolean virtio = strcmp(c->target_type, "virtio") == 0;

    if (index == 0 && !virtio)
        return TRUE; /* the first serial line, shown twice */
    if (!virtio)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &c->node,
                           "has the target type '%s': after the first, only 'virtio' can run",
                           c->target_type);
    if (!add_chardev(a, c, error))
        return FALSE;
    g_autofree char *chardev = g_strdup_printf("char%s", c->alias);
    json_auto json_t *device = json_pack("{s:s,s:s}", "driver", "virtconsole", "chardev", chardev);
    return set_bus(a, device, "virtio-serial", &c->node, error)
           && argv_add_device(a, json_steal(&device), c->alias, NULL, &c->node, error);
}

static gboolean
add_serial_lines(Argv *a, GError **error)
{
    for (guint i = 0; i < a->d->serials->len; i++)
        if (!add_serial(a, g_ptr_array_index(a->d->serials, i), error))
            return FALSE;
    for (guint i = 0; i < a->d->consoles->len; i++)
        if (!add_console(a, i, error))
            return FALSE;
    if (a->d->channels->len) {
        const ModelChardev *c = g_ptr_array_index(a->d->channels, 0);
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &c->node,
                           "'%s' is not something that kho can give to QEMU: remove it to start",
                           c->target_name ? c->target_name : "");
    }
    return TRUE;
}

/* ---- input, random numbers, balloon ---- */

static gboolean
add_input(Argv *a, const ModelInput *in, GError **error)
{
    static const struct {
        const char *type, *bus, *device;
    } inputs[] = {
        { "mouse", "ps2", NULL },
        { "keyboard", "ps2", NULL },
        { "mouse", "usb", "usb-mouse" },
        { "keyboard", "usb", "usb-kbd" },
        { "tablet", "usb", "usb-tablet" },
        { "mouse", "virtio", "virtio-mouse-pci" },
        { "keyboard", "virtio", "virtio-keyboard-pci" },
        { "tablet", "virtio", "virtio-tablet-pci" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(inputs); i++) {
        if (strcmp(inputs[i].type, in->type) != 0 || strcmp(inputs[i].bus, in->bus) != 0)
            continue;
        if (!inputs[i].device)
            return TRUE; /* every PC has them */
        gboolean usb = strcmp(in->bus, "usb") == 0;
        json_auto json_t *device = json_pack("{s:s}", "driver", inputs[i].device);
        if (usb && !set_bus(a, device, "usb", &in->node, error))
            return FALSE;
        if (usb && in->address.type == MODEL_ADDRESS_USB && in->address.port > 0) {
            g_autofree char *port = g_strdup_printf("%d", in->address.port);
            json_object_set_new(device, "port", json_string(port));
        }
        return argv_add_device(a, json_steal(&device), in->alias, usb ? NULL : &in->address, &in->node,
                               error);
    }
    return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &in->node,
                       "'%s' on bus '%s' is not something that kho can give to QEMU", in->type, in->bus);
}

static gboolean
add_rng(Argv *a, const ModelRng *rng, GError **error)
{
    gboolean builtin = strcmp(rng->backend_model, "builtin") == 0;
    g_autofree char *object = g_strdup_printf("obj%s", rng->alias);

    if (strcmp(rng->model, "virtio") != 0 || strcmp(rng->backend_model, "egd") == 0)
        return argv_refuse(
            error, KHO_ERROR_UNSUPPORTED, &rng->node,
            "has the model '%s' and the backend '%s': model virtio with random or builtin can run",
            rng->model, rng->backend_model);
    json_t *backend =
        json_pack("{s:s,s:s}", "qom-type", builtin ? "rng-builtin" : "rng-random", "id", object);
    if (!builtin)
        json_object_set_new(backend, "filename", json_string(rng->backend_path));
    argv_add_json(a, "-object", backend);
    json_t *device = json_pack("{s:s,s:s}", "driver", "virtio-rng-pci", "rng", object);
    if (rng->rate_bytes != MODEL_UNSET) {
        json_object_set_new(device, "max-bytes", json_integer(rng->rate_bytes));
        json_object_set_new(device, "period",
                            json_integer(rng->rate_period_ms == MODEL_UNSET ? 1000 : rng->rate_period_ms));
    }
    return argv_add_device(a, device, rng->alias, &rng->address, &rng->node, error);
}

static gboolean
add_balloon(Argv *a, const ModelBalloon *b, GError **error)
{
    if (strcmp(b->model, "none") == 0 && a->d->current_memory_kib < a->d->memory_kib)
        return argv_refuse(
            error, KHO_ERROR_INVALID, &b->node,
            "has the model 'none', but <currentMemory> is less than <memory>: only a balloon makes it so");
    if (strcmp(b->model, "none") == 0)
        return TRUE;
    if (strcmp(b->model, "virtio") != 0)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &b->node,
                           "has the model '%s': virtio and none can run", b->model);
    json_t *device = json_pack("{s:s}", "driver", "virtio-balloon-pci");
    if (b->autodeflate == MODEL_SWITCH_ON)
        json_object_set_new(device, "deflate-on-oom", json_true());
    return argv_add_device(a, device, b->alias, &b->address, &b->node, error);
}

static gboolean
add_panic(Argv *a, const ModelPanic *p, GError **error)
{
    if (strcmp(p->model, "isa") != 0 || p->address.type != MODEL_ADDRESS_UNSET)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &p->node,
                           "has the model '%s'%s: 'isa' without one can run", p->model,
                           p->address.type != MODEL_ADDRESS_UNSET ? " and an <address>" : "");
    return argv_add_device(a, json_pack("{s:s}", "driver", "pvpanic"), p->alias, NULL, &p->node, error);
}

gboolean
argv_add_devices(Argv *a, GError **error)
{
    const ModelDomain *d = a->d;

    for (guint i = 0; i < d->interfaces->len; i++)
        if (!add_interface(a, i, error))
            return FALSE;
    if (!add_serial_lines(a, error))
        return FALSE;
    for (guint i = 0; i < d->inputs->len; i++)
        if (!add_input(a, g_ptr_array_index(d->inputs, i), error))
            return FALSE;
    for (guint i = 0; i < d->rngs->len; i++)
        if (!add_rng(a, g_ptr_array_index(d->rngs, i), error))
            return FALSE;
    for (guint i = 0; i < d->balloons->len; i++)
        if (!add_balloon(a, g_ptr_array_index(d->balloons, i), error))
            return FALSE;
    for (guint i = 0; i < d->panics->len; i++)
        if (!add_panic(a, g_ptr_array_index(d->panics, i), error))
            return FALSE;
    return TRUE;
}

/* ---- graphics and video ---- */

static gboolean
add_vnc(Argv *a, const ModelGraphics *g, GError **error)
{
    const char *address = g->listen ? g->listen : "127.0.0.1";
    gint port = g->port > 0 ? g->port : a->r->vnc_port;

    if (strcmp(g->type, "vnc") != 0)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &g->node, "is of type '%s': only 'vnc' can run",
                           g->type);
    if (g->passwd)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &g->node,
                           "has a passwd, which kho cannot give to QEMU yet: remove it to start");
    for (guint i = 0; i < g->listens->len; i++) {
        const ModelListen *l = g_ptr_array_index(g->listens, i);
        if (strcmp(l->type, "address") != 0 || i > 0)
            return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &g->node,
                               "listens on type '%s': one of type 'address' can run", l->type);
    }
    if (!argv_is_word(address) || (g->keymap && !argv_is_word(g->keymap)))
        return argv_refuse(error, KHO_ERROR_INVALID, &g->node,
                           "listens at '%s': it must be an address or a host name", address);
    if (port < 5900)
        return argv_refuse(error, KHO_ERROR_INVALID, &g->node,
                           "has no port yet: the start chooses one from 5900 up");
    argv_add(a, "-vnc", g_strdup_printf(strchr(address, ':') ? "[%s]:%d" : "%s:%d", address, port - 5900));
    if (g->keymap)
        argv_add(a, "-k", g_strdup(g->keymap));
    return TRUE;
}

static gboolean
add_video(Argv *a, guint index, GError **error)
{
    static const struct {
        const char *model, *device, *memory; /* the property that takes the memory of the display, in MiB */
    } videos[] = {
        { "cirrus", "cirrus-vga", "vgamem_mb" },
        { "vga", "VGA", "vgamem_mb" },
        { "virtio", "virtio-vga", NULL },
        { "bochs", "bochs-display", NULL },
    };
    const ModelVideo *v = g_ptr_array_index(a->d->videos, index);

    if (strcmp(v->model, "none") == 0)
        return TRUE;
    for (gsize i = 0; i < G_N_ELEMENTS(videos) && index == 0; i++) {
        if (strcmp(videos[i].model, v->model) != 0)
            continue;
        json_t *device = json_pack("{s:s}", "driver", videos[i].device);
        if (videos[i].memory && v->vram_kib >= 1024)
            json_object_set_new(device, videos[i].memory, json_integer(v->vram_kib / 1024));
        if (strcmp(v->model, "virtio") == 0 && v->heads > 1)
            json_object_set_new(device, "max_outputs", json_integer(v->heads));
        return argv_add_device(a, device, v->alias, &v->address, &v->node, error);
    }
    return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &v->node,
                       "%s is model '%s': one of cirrus, vga, virtio, bochs, none can run",
                       index ? "past the first" : "the first", v->model);
}

gboolean
argv_add_display(Argv *a, GError **error)
{
    const ModelDomain *d = a->d;

    if (d->graphics->len > 1)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, g_ptr_array_index(d->graphics, 1),
                           "is the second: one can run");
    if (!d->graphics->len)
        argv_add(a, "-display", g_strdup("none"));
    else if (!add_vnc(a, g_ptr_array_index(d->graphics, 0), error))
        return FALSE;
    for (guint i = 0; i < d->videos->len; i++)
        if (!add_video(a, i, error))
            return FALSE;
    return TRUE;
}
