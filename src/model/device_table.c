#include "model/device_table.h"

#include "model/address.h"
#include "model/device.h"

/* Words stand in the order of their enums; [0] is absence. */
const char *const model_source_types[] = { "",       "file", "block",     "dir",       "network",
                                           "volume", "nvme", "vhostuser", "vhostvdpa", NULL };
static const char *const disk_devices[] = { "", "disk", "cdrom", "floppy", "lun", NULL };
static const char *const buses[] = { "",    "virtio", "scsi", "ide", "sata", "usb",
                                     "fdc", "xen",    "uml",  "sd",  NULL };
static const char *const caches[] = { "",          "default",    "none",   "writethrough",
                                      "writeback", "directsync", "unsafe", NULL };
static const char *const ios[] = { "", "threads", "native", "io_uring", NULL };
static const char *const discards[] = { "", "unmap", "ignore", NULL };
static const char *const detects[] = { "", "off", "on", "unmap", NULL };
static const char *const error_policies[] = { "", "stop", "report", "ignore", "enospace", NULL };
static const char *const startup_policies[] = { "", "mandatory", "requisite", "optional", NULL };
static const char *const disk_formats[] = { "",    "raw", "qcow2", "qcow", "qed",   "vmdk",
                                            "vdi", "vpc", "vhdx",  "luks", "bochs", "cloop",
                                            "dmg", "iso", "dir",   "fat",  "ploop", NULL };

static const ModelRow disk_rows[] = {
    ROW_WORD("@type", ModelDisk, type, model_source_types),
    ROW_WORD("@device", ModelDisk, device, disk_devices),
    ROW("/driver@name", MODEL_STRING, ModelDisk, driver),
    ROW_ONE_OF("/driver@type", ModelDisk, format, disk_formats),
    ROW_WORD("/driver@cache", ModelDisk, cache, caches),
    ROW_ONE_OF("/driver@error_policy", ModelDisk, error_policy, error_policies),
    ROW_WORD("/driver@io", ModelDisk, io, ios),
    ROW_WORD("/driver@discard", ModelDisk, discard, discards),
    ROW_ONE_OF("/driver@detect_zeroes", ModelDisk, detect_zeroes, detects),
    ROW("/source@file", MODEL_STRING, ModelDisk, source_file),
    ROW_ONE_OF("/source@startupPolicy", ModelDisk, startup_policy, startup_policies),
    ROW_KEEP("/backingStore"),
    ROW("/target@dev", MODEL_STRING, ModelDisk, target),
    ROW_WORD("/target@bus", ModelDisk, bus, buses),
    ROW("/readonly", MODEL_FLAG, ModelDisk, readonly),
    ROW("/shareable", MODEL_FLAG, ModelDisk, shareable),
    ROW("/serial", MODEL_STRING, ModelDisk, serial),
    ROW("/wwn", MODEL_STRING, ModelDisk, wwn),
    ROW_NUMBER("/boot@order", ModelDisk, boot_order, 1, 1000),
    ROW("/alias@name", MODEL_STRING, ModelDisk, alias),
    ROW_HOOK("/address", ModelDisk, address, &model_address_hook),
};
const ModelTable model_disk_table = TABLE("disk", ModelDisk, disk_rows);

static const ModelRow controller_rows[] = {
    ROW("@type", MODEL_STRING, ModelController, type),
    ROW_NUMBER("@index", ModelController, index, 0, 255),
    ROW("@model", MODEL_STRING, ModelController, model),
    ROW_NUMBER("@ports", ModelController, ports, 1, 1024),
    ROW("/model@name", MODEL_STRING, ModelController, pci_model),
    ROW("/target@chassis", MODEL_STRING, ModelController, target_chassis),
    ROW("/target@port", MODEL_STRING, ModelController, target_port),
    ROW("/alias@name", MODEL_STRING, ModelController, alias),
    ROW_HOOK("/address", ModelController, address, &model_address_hook),
};
const ModelTable model_controller_table = TABLE("controller", ModelController, controller_rows);

static const char *const nic_types[] = { "",         "user",      "network", "bridge", "direct", "ethernet",
                                         "hostdev",  "vhostuser", "server",  "client", "mcast",  "udp",
                                         "internal", "vdpa",      "null",    NULL };
static const char *const links[] = { "", "up", "down", NULL };

static const ModelRow interface_rows[] = {
    ROW_WORD("@type", ModelInterface, type, nic_types),
    ROW("/mac@address", MODEL_STRING, ModelInterface, mac),
    ROW("/model@type", MODEL_STRING, ModelInterface, model),
    ROW_WORD("/link@state", ModelInterface, link, links),
    ROW_NUMBER("/boot@order", ModelInterface, boot_order, 1, 1000),
    ROW("/alias@name", MODEL_STRING, ModelInterface, alias),
    ROW_HOOK("/address", ModelInterface, address, &model_address_hook),
};
const ModelTable model_interface_table = TABLE("interface", ModelInterface, interface_rows);

static const char *const chardev_types[] = { "",     "pty", "file", "unix", "null",     "stdio",     "dev",
                                             "pipe", "tcp", "udp",  "vc",   "spicevmc", "spiceport", NULL };

static const ModelRow chardev_rows[] = {
    ROW_WORD("@type", ModelChardev, type, chardev_types),
    ROW("@tty", MODEL_STRING, ModelChardev, tty),
    ROW("/source@mode", MODEL_STRING, ModelChardev, source_mode),
    ROW("/source@path", MODEL_STRING, ModelChardev, source_path),
    ROW("/source@append", MODEL_ON, ModelChardev, append),
    ROW("/target@type", MODEL_STRING, ModelChardev, target_type),
    ROW_NUMBER("/target@port", ModelChardev, target_port, 0, 255),
    ROW("/target@name", MODEL_STRING, ModelChardev, target_name),
    ROW("/target/model@name", MODEL_STRING, ModelChardev, target_model),
    ROW("/alias@name", MODEL_STRING, ModelChardev, alias),
    ROW_HOOK("/address", ModelChardev, address, &model_address_hook),
};
const ModelTable model_serial_table = TABLE("serial", ModelChardev, chardev_rows);
const ModelTable model_console_table = TABLE("console", ModelChardev, chardev_rows);
const ModelTable model_channel_table = TABLE("channel", ModelChardev, chardev_rows);

static const ModelRow input_rows[] = {
    ROW("@type", MODEL_STRING, ModelInput, type),
    ROW("@bus", MODEL_STRING, ModelInput, bus),
    ROW("/alias@name", MODEL_STRING, ModelInput, alias),
    ROW_HOOK("/address", ModelInput, address, &model_address_hook),
};
const ModelTable model_input_table = TABLE("input", ModelInput, input_rows);

static const ModelRow listen_rows[] = {
    ROW("@type", MODEL_STRING, ModelListen, type),
    ROW("@address", MODEL_STRING, ModelListen, address),
};
const ModelTable model_listen_table = TABLE("listen", ModelListen, listen_rows);

static const ModelRow graphics_rows[] = {
    ROW("@type", MODEL_STRING, ModelGraphics, type),
    ROW_NUMBER("@port", ModelGraphics, port, -1, 65535),
    ROW("@autoport", MODEL_YES, ModelGraphics, autoport),
    ROW("@listen", MODEL_STRING, ModelGraphics, listen),
    ROW("@keymap", MODEL_STRING, ModelGraphics, keymap),
    ROW("@passwd", MODEL_STRING, ModelGraphics, passwd),
    ROW_LIST("/listen", ModelGraphics, listens, &model_listen_table),
};
const ModelTable model_graphics_table = TABLE("graphics", ModelGraphics, graphics_rows);

static const ModelRow video_rows[] = {
    ROW("/model@type", MODEL_STRING, ModelVideo, model),
    ROW_NUMBER("/model@ram", ModelVideo, ram_kib, 1, 1 << 22),
    ROW_NUMBER("/model@vram", ModelVideo, vram_kib, 1, 1 << 22),
    ROW_NUMBER("/model@vgamem", ModelVideo, vgamem_kib, 1, 1 << 22),
    ROW_NUMBER("/model@heads", ModelVideo, heads, 1, 16),
    ROW("/model@primary", MODEL_YES, ModelVideo, primary),
    ROW("/alias@name", MODEL_STRING, ModelVideo, alias),
    ROW_HOOK("/address", ModelVideo, address, &model_address_hook),
};
const ModelTable model_video_table = TABLE("video", ModelVideo, video_rows);

static const ModelRow balloon_rows[] = {
    ROW("@model", MODEL_STRING, ModelBalloon, model),
    ROW("@autodeflate", MODEL_ON, ModelBalloon, autodeflate),
    ROW_NUMBER("/stats@period", ModelBalloon, stats_period_s, 0, G_MAXINT),
    ROW("/alias@name", MODEL_STRING, ModelBalloon, alias),
    ROW_HOOK("/address", ModelBalloon, address, &model_address_hook),
};
const ModelTable model_balloon_table = TABLE("memballoon", ModelBalloon, balloon_rows);

static const char *const rng_backends[] = { "", "random", "builtin", "egd", NULL };

static const ModelRow rng_rows[] = {
    ROW("@model", MODEL_STRING, ModelRng, model),
    ROW_NUMBER("/rate@bytes", ModelRng, rate_bytes, 1, G_MAXINT),
    ROW_NUMBER("/rate@period", ModelRng, rate_period_ms, 1, G_MAXINT),
    ROW("/backend", MODEL_STRING, ModelRng, backend_path),
    ROW_ONE_OF("/backend@model", ModelRng, backend_model, rng_backends),
    ROW("/alias@name", MODEL_STRING, ModelRng, alias),
    ROW_HOOK("/address", ModelRng, address, &model_address_hook),
};
const ModelTable model_rng_table = TABLE("rng", ModelRng, rng_rows);

static const ModelRow panic_rows[] = {
    ROW("@model", MODEL_STRING, ModelPanic, model),
    ROW("/alias@name", MODEL_STRING, ModelPanic, alias),
    ROW_HOOK("/address", ModelPanic, address, &model_address_hook),
};
const ModelTable model_panic_table = TABLE("panic", ModelPanic, panic_rows);

ModelDisk *
model_disk_new(void)
{
    return model_node_new(&model_disk_table);
}

const char *
model_bus_word(ModelBus bus)
{
    return bus ? buses[bus] : NULL;
}

const char *
model_disk_device_word(ModelDiskDevice device)
{
    return device ? disk_devices[device] : NULL;
}

const char *
model_source_type_word(ModelSourceType type)
{
    return type ? model_source_types[type] : NULL;
}

const char *
model_nic_type_word(ModelNicType type)
{
    return type ? nic_types[type] : NULL;
}

const char *
model_chardev_type_word(ModelChardevType type)
{
    return type ? chardev_types[type] : NULL;
}

const char *
model_io_word(ModelIo io)
{
    return io ? ios[io] : NULL;
}

const char *
model_cache_word(ModelCache cache)
{
    return cache ? caches[cache] : NULL;
}
