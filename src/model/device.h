/* The devices of a machine as plain structs: disks, controllers, interfaces, serial lines and the rest. Their
 * XML is in device_table.c; the machine that holds them is in domain.h. */
#ifndef KHO_MODEL_DEVICE_H
#define KHO_MODEL_DEVICE_H

#include "model/node.h"

typedef enum {
    MODEL_SOURCE_UNSET,
    MODEL_SOURCE_FILE, /* the only one that starts; the others are kept */
    MODEL_SOURCE_BLOCK,
    MODEL_SOURCE_DIR,
    MODEL_SOURCE_NETWORK,
    MODEL_SOURCE_VOLUME,
    MODEL_SOURCE_NVME,
    MODEL_SOURCE_VHOSTUSER,
    MODEL_SOURCE_VHOSTVDPA
} ModelSourceType;

typedef enum {
    MODEL_DISK_UNSET,
    MODEL_DISK_DISK,
    MODEL_DISK_CDROM,
    MODEL_DISK_FLOPPY,
    MODEL_DISK_LUN
} ModelDiskDevice;

typedef enum {
    MODEL_BUS_UNSET,
    MODEL_BUS_VIRTIO,
    MODEL_BUS_SCSI,
    MODEL_BUS_IDE,
    MODEL_BUS_SATA,
    MODEL_BUS_USB,
    MODEL_BUS_FDC,
    MODEL_BUS_XEN,
    MODEL_BUS_UML,
    MODEL_BUS_SD
} ModelBus;

typedef enum {
    MODEL_CACHE_UNSET,
    MODEL_CACHE_DEFAULT,
    MODEL_CACHE_NONE,
    MODEL_CACHE_WRITETHROUGH,
    MODEL_CACHE_WRITEBACK,
    MODEL_CACHE_DIRECTSYNC,
    MODEL_CACHE_UNSAFE
} ModelCache;

typedef enum { MODEL_IO_UNSET, MODEL_IO_THREADS, MODEL_IO_NATIVE, MODEL_IO_URING } ModelIo;
typedef enum { MODEL_DISCARD_UNSET, MODEL_DISCARD_UNMAP, MODEL_DISCARD_IGNORE } ModelDiscard;

/* <address>: which members count depends on the type; 0 where the text gives none. */
typedef enum {
    MODEL_ADDRESS_UNSET,
    MODEL_ADDRESS_PCI,
    MODEL_ADDRESS_DRIVE,
    MODEL_ADDRESS_VIRTIO_SERIAL,
    MODEL_ADDRESS_USB,
    MODEL_ADDRESS_OTHER /* anything else, kept as it was read */
} ModelAddressType;

typedef struct {
    ModelAddressType type;
    gint domain, bus, slot, function; /* pci; bus and port: usb, virtio-serial */
    gint controller, target, unit;    /* drive; controller: virtio-serial */
    gint port;
    ModelSwitch multifunction;
} ModelAddress;

typedef struct {
    ModelNode node;
    ModelSourceType type;
    ModelDiskDevice device;
    char *driver; /* "qemu" */
    char *format; /* driver type: "raw", "qcow2"; after model_domain_complete never NULL for files */
    ModelCache cache;
    ModelIo io;
    ModelDiscard discard;
    char *detect_zeroes;  /* off, on, unmap, or NULL */
    char *error_policy;   /* stop, report, ignore, enospace, or NULL */
    char *source_file;    /* NULL: an empty drive */
    char *startup_policy; /* mandatory, requisite, optional, or NULL */
    char *target;         /* "vda": required, unique within the machine */
    ModelBus bus;
    gboolean readonly, shareable;
    char *serial;
    char *wwn;
    gint boot_order; /* from 1, or MODEL_UNSET */
    char *alias;     /* live: "virtio-disk0"; definitions hold only "ua-..." */
    ModelAddress address;
} ModelDisk;

typedef struct {
    ModelNode node;
    char *type;      /* usb, scsi, virtio-serial, ide, sata, pci, fdc, ccid ... */
    gint index;      /* MODEL_UNSET: the next free one, given by model_domain_complete */
    char *model;     /* virtio-scsi, lsilogic, piix3-uhci, qemu-xhci, pcie-root, ... or NULL */
    gint ports;      /* usb, virtio-serial; MODEL_UNSET: QEMU's */
    char *pci_model; /* pci: <model name='pcie-root-port'/> */
    char *target_chassis, *target_port; /* pci: as written, 0x... or decimal */
    char *alias;
    ModelAddress address;
} ModelController;

typedef enum {
    MODEL_NIC_UNSET,
    MODEL_NIC_USER, /* the only one that starts; the others are kept */
    MODEL_NIC_NETWORK,
    MODEL_NIC_BRIDGE,
    MODEL_NIC_DIRECT,
    MODEL_NIC_ETHERNET,
    MODEL_NIC_HOSTDEV,
    MODEL_NIC_VHOSTUSER,
    MODEL_NIC_SERVER,
    MODEL_NIC_CLIENT,
    MODEL_NIC_MCAST,
    MODEL_NIC_UDP,
    MODEL_NIC_INTERNAL,
    MODEL_NIC_VDPA,
    MODEL_NIC_NULL
} ModelNicType;

typedef enum { MODEL_LINK_UNSET, MODEL_LINK_UP, MODEL_LINK_DOWN } ModelLink;

typedef struct {
    ModelNode node;
    ModelNicType type;
    char *mac;   /* "52:54:00:xx:xx:xx", lower-case after model_domain_complete */
    char *model; /* virtio, e1000, rtl8139, ... */
    ModelLink link;
    gint boot_order;
    char *alias;
    ModelAddress address;
} ModelInterface;

typedef enum {
    MODEL_CHARDEV_UNSET,
    MODEL_CHARDEV_PTY,
    MODEL_CHARDEV_FILE,
    MODEL_CHARDEV_UNIX,
    MODEL_CHARDEV_NULL,
    MODEL_CHARDEV_STDIO,
    MODEL_CHARDEV_DEV,
    MODEL_CHARDEV_PIPE,
    MODEL_CHARDEV_TCP,
    MODEL_CHARDEV_UDP,
    MODEL_CHARDEV_VC,
    MODEL_CHARDEV_SPICEVMC,
    MODEL_CHARDEV_SPICEPORT
} ModelChardevType;

/* <serial>, <console> and <channel>: the same struct in three lists. */
typedef struct {
    ModelNode node;
    ModelChardevType type;
    char *tty;          /* live, consoles of pty kind: same as source_path */
    char *source_path;  /* live: "/dev/pts/3"; kept in definitions for file and unix kinds */
    char *source_mode;  /* unix: bind, connect */
    ModelSwitch append; /* file */
    char *target_type;  /* serial: isa-serial; console: serial, virtio; channel: virtio */
    gint target_port;   /* serial, console */
    char *target_name;  /* channel: "org.qemu.guest_agent.0" */
    char *target_model; /* serial: isa-serial */
    char *alias;
    ModelAddress address;
} ModelChardev;

typedef struct {
    ModelNode node;
    char *type; /* mouse, keyboard, tablet */
    char *bus;  /* ps2, usb, virtio */
    char *alias;
    ModelAddress address;
} ModelInput;

typedef struct {
    ModelNode node;
    char *type; /* address, socket, none */
    char *address;
} ModelListen;

typedef struct {
    ModelNode node;
    char *type; /* vnc; spice, sdl, ... are kept and refused at start */
    gint port;  /* -1: chosen at start; live: the real one */
    ModelSwitch autoport;
    char *listen; /* NULL: 127.0.0.1 */
    char *keymap;
    char *passwd;       /* not built yet: refused at start */
    GPtrArray *listens; /* ModelListen */
} ModelGraphics;

typedef struct {
    ModelNode node;
    char *model; /* vga, cirrus, virtio, bochs, qxl, none, ... */
    gint vram_kib, ram_kib, vgamem_kib, heads;
    ModelSwitch primary;
    char *alias;
    ModelAddress address;
} ModelVideo;

typedef struct {
    ModelNode node;
    char *model; /* virtio, none */
    ModelSwitch autodeflate;
    gint stats_period_s;
    char *alias;
    ModelAddress address;
} ModelBalloon;

typedef struct {
    ModelNode node;
    char *model;         /* virtio */
    char *backend_model; /* random, builtin, egd */
    char *backend_path; /* random: a file, or NULL for /dev/random (after model_domain_complete never NULL) */
    gint rate_bytes, rate_period_ms;
    char *alias;
    ModelAddress address;
} ModelRng;

typedef struct {
    ModelNode node;
    char *model; /* isa: the guest tells of its panic through pvpanic */
    char *alias;
    ModelAddress address;
} ModelPanic;

/* Empty ones, to be filled in by code rather than from text. */
ModelDisk *model_disk_new(void);

/* Words as the XML has them; NULL for UNSET. */
const char *model_bus_word(ModelBus bus);
const char *model_disk_device_word(ModelDiskDevice device);
const char *model_source_type_word(ModelSourceType type);
const char *model_nic_type_word(ModelNicType type);
const char *model_chardev_type_word(ModelChardevType type);
const char *model_cache_word(ModelCache cache);
const char *model_io_word(ModelIo io);

#endif
