/* Plugging a disk into a machine and taking it out, in its definition, in the machine that runs, or in both:
 * all or nothing. The steps of a plug:
 *
 *   definition   the new one is published        back: the old one
 *   files        QEMU gets the descriptors and block nodes        back: it loses them
 *   plug!        device_add; QEMU itself says whether the device is there
 *   live-xml     live.xml tells of the disk
 *
 * Of an unplug: definition, unplug! (device_del, and the guest lets go; back: kho-vm is to see to the rest
 * when it does), files, live-xml.
 *
 * What machines and states admit is decided in host/; how QEMU names a disk is vm/argv.h's. */
#ifndef KHO_HOTPLUG_DISK_H
#define KHO_HOTPLUG_DISK_H

#include "model/domain.h"
#include "store/change.h"

typedef struct HotplugRequest {
    const StoreTree *tree;
    const char *name;
    const char *definition; /* the text that stands, to be changed; NULL: leave it */
    const char *live_xml;   /* of the machine that runs, to be changed; NULL: leave it */
} HotplugRequest;

/* A <disk> that a person describes, completed as a definition's would be: the one disk of a machine without a
 * meaning of its own. KHO_ERROR_INVALID. */
ModelDomain *hotplug_read_disk(const char *disk_xml, GError **error);

/* @disk_xml: a <disk>. A plan for hotplug_attach_disk; NULL with KHO_ERROR_INVALID (the XML; the target is
 * taken, or the file is another disk's), _BUSY, _NOT_FOUND, _UNSUPPORTED, ... (the image). Opens the image
 * and its chain, and changes nothing. */
json_t *hotplug_plan_attach(const HotplugRequest *request, const char *disk_xml, GError **error);

/* @which: the target ("vdb") or the source file of the disk, which may be in one of both only.
 * KHO_ERROR_NOT_FOUND. */
json_t *hotplug_plan_detach(const HotplugRequest *request, const char *which, GError **error);

/* Opened with the StoreTree. */
extern const ChangeKind hotplug_attach_disk, hotplug_detach_disk;

#endif
