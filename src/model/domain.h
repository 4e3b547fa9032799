/* A machine as a plain struct, and its XML in both directions. Pure: no file is opened here, nothing is
 * looked up on the host. QEMU's arguments are made of it in vm/argv.h; names are checked against the tree's
 * rules by store/. */
#ifndef KHO_MODEL_DOMAIN_H
#define KHO_MODEL_DOMAIN_H

#include "model/node.h"

typedef enum { MODEL_DOMAIN_UNSET, MODEL_DOMAIN_KVM, MODEL_DOMAIN_QEMU } ModelDomainType;

/* All words parse; vm/argv refuses those that cannot be acted on yet. */
typedef enum {
    MODEL_ACTION_UNSET,
    MODEL_ACTION_DESTROY,
    MODEL_ACTION_RESTART,
    MODEL_ACTION_PRESERVE,
    MODEL_ACTION_RENAME_RESTART,
    MODEL_ACTION_COREDUMP_DESTROY, /* on_crash only, as the next one */
    MODEL_ACTION_COREDUMP_RESTART
} ModelAction;

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

/* <address>: which members count depends on the type; numbers are MODEL_UNSET when not given. */
typedef enum {
    MODEL_ADDRESS_UNSET,
    MODEL_ADDRESS_PCI,
    MODEL_ADDRESS_DRIVE,
    MODEL_ADDRESS_VIRTIO_SERIAL,
    MODEL_ADDRESS_USB,
    MODEL_ADDRESS_OTHER /* ccw, isa, ...: word kept below */
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
    char *type;  /* usb, scsi, virtio-serial, ide, sata, pci, fdc, ccid ... */
    gint index;  /* MODEL_UNSET: the next free one, given by model_domain_complete */
    char *model; /* virtio-scsi, lsilogic, piix3-uhci, qemu-xhci, pcie-root, ... or NULL */
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

/* <boot dev='...'/> under os, in order. */
typedef struct {
    ModelNode node;
    gint dev; /* ModelBootDev */
} ModelBoot;

typedef enum {
    MODEL_BOOT_UNSET,
    MODEL_BOOT_HD,
    MODEL_BOOT_CDROM,
    MODEL_BOOT_NETWORK,
    MODEL_BOOT_FD
} ModelBootDev;

typedef struct {
    ModelNode node;
    char *name;
    gint policy; /* ModelPolicy */
} ModelCpuFeature;

typedef enum {
    MODEL_POLICY_UNSET,
    MODEL_POLICY_FORCE,
    MODEL_POLICY_REQUIRE,
    MODEL_POLICY_OPTIONAL,
    MODEL_POLICY_DISABLE,
    MODEL_POLICY_FORBID
} ModelPolicy;

typedef enum {
    MODEL_CPU_UNSET,
    MODEL_CPU_CUSTOM,
    MODEL_CPU_HOST_MODEL,
    MODEL_CPU_HOST_PASSTHROUGH,
    MODEL_CPU_MAXIMUM
} ModelCpuMode;

typedef enum {
    MODEL_CLOCK_UNSET,
    MODEL_CLOCK_UTC,
    MODEL_CLOCK_LOCALTIME,
    MODEL_CLOCK_TIMEZONE,
    MODEL_CLOCK_VARIABLE,
    MODEL_CLOCK_ABSOLUTE
} ModelClockOffset;

typedef struct {
    ModelNode node;
    char *name; /* rtc, pit, hpet, kvmclock, tsc, ... */
    ModelSwitch present;
    char *tickpolicy; /* delay, catchup, merge, discard */
    char *track;
} ModelTimer;

typedef struct {
    ModelNode node;
    ModelDomainType type;
    gint id;    /* live only; MODEL_UNSET otherwise */
    char *name; /* never NULL after parsing */
    char *uuid; /* canonical lower-case text; NULL until model_domain_complete when the text has none */
    char *title, *description;
    guint64 memory_kib, current_memory_kib;
    gint vcpus, current_vcpus; /* current: MODEL_UNSET when all are */
    char *vcpu_placement, *cpuset;

    char *os_firmware, *os_type, *arch, *machine;
    char *loader, *loader_type, *nvram;
    ModelSwitch loader_readonly, loader_secure;
    char *kernel, *initrd, *cmdline;
    GPtrArray *boots; /* ModelBoot */
    ModelSwitch boot_menu;
    gint boot_menu_timeout_ms;

    gboolean acpi, apic, pae;
    ModelSwitch vmport, smm, pmu, kvm_hidden;

    ModelCpuMode cpu_mode;
    char *cpu_match, *cpu_check, *cpu_model, *cpu_fallback, *cpu_vendor;
    ModelSwitch cpu_migratable;
    gint sockets, dies, cores, threads;
    GPtrArray *cpu_features; /* ModelCpuFeature */

    ModelClockOffset clock_offset;
    char *timezone, *clock_adjustment, *clock_basis, *clock_start;
    GPtrArray *timers; /* ModelTimer */
    ModelAction on_poweroff, on_reboot, on_crash;
    ModelSwitch suspend_to_mem, suspend_to_disk;

    char *emulator;
    GPtrArray *disks;       /* ModelDisk */
    GPtrArray *controllers; /* ModelController */
    GPtrArray *interfaces;  /* ModelInterface */
    GPtrArray *serials;     /* ModelChardev */
    GPtrArray *consoles;    /* ModelChardev; the first mirrors the first serial */
    GPtrArray *channels;    /* ModelChardev */
    GPtrArray *inputs;      /* ModelInput */
    GPtrArray *graphics;    /* ModelGraphics */
    GPtrArray *videos;      /* ModelVideo */
    GPtrArray *balloons;    /* ModelBalloon: one at most */
    GPtrArray *rngs;        /* ModelRng */
} ModelDomain;              /* the lists are never NULL */

/* What the host brings to a definition. */
typedef struct {
    const char *emulator; /* "/usr/bin/qemu-system-x86_64" */
    const char *arch;     /* "x86_64" */
    const char *machine;  /* "pc": used when the text names none */
} ModelDefaults;

/* Text to struct. Values are checked one by one (words, ranges), unknown content is kept. Nothing is filled
 * in. KHO_ERROR_INVALID with line and column for malformed XML, with line, element, value and what would do
 * for a bad value. */
ModelDomain *model_domain_parse(const char *text, gsize len, GError **error);

/* Fills in what the text left out (uuid, currentMemory, vcpu, on_*, clock, boot, formats, buses, MACs, the
 * serial/console pair, balloon, emulator) and strips what only a live machine has (id, aliases but "ua-...",
 * ptys, chosen ports): the step from a person's text to the definition that is stored. Then checks what spans
 * elements (targets unique, one kind of boot order, ...). Idempotent. */
gboolean model_domain_complete(ModelDomain *domain, const ModelDefaults *defaults, GError **error);

typedef enum {
    MODEL_FORMAT_INACTIVE, /* the definition: no id, aliases, ptys */
    MODEL_FORMAT_LIVE
} ModelFormatKind;

/* Struct to text in libvirt's layout: 2 spaces, single quotes, trailing newline. */
char *model_domain_format(const ModelDomain *domain, ModelFormatKind kind);

/* What was kept without being understood, as "<sound> in line 40" or "attribute 'x' of <disk> in line 12". */
GPtrArray *model_domain_unknown(const ModelDomain *domain);

/* Gives every device that has none its alias as libvirt words it: virtio-disk0, ide0-0-1, net0, serial0, ...
 * They are QEMU's device ids. For the live copy of a definition only. */
void model_domain_assign_aliases(ModelDomain *domain);

/* A deep copy, with unknown content. */
ModelDomain *model_domain_copy(const ModelDomain *domain);
void model_domain_free(ModelDomain *domain);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ModelDomain, model_domain_free)

/* The disk whose target or source file is @name, or NULL. */
ModelDisk *model_domain_disk(const ModelDomain *domain, const char *name);

/* Words as the XML has them; NULL for UNSET. */
const char *model_bus_word(ModelBus bus);
const char *model_disk_device_word(ModelDiskDevice device);
const char *model_source_type_word(ModelSourceType type);
const char *model_action_word(ModelAction action);
const char *model_domain_type_word(ModelDomainType type);

#endif
