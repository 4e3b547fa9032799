/* Where guest bytes live: guest and host addresses, the runs that a format answers with, and the places that
 * it makes ready. What a format is asked for lives in format.h. */
#ifndef KHO_BLOCK_MAP_H
#define KHO_BLOCK_MAP_H

#include <glib.h>

typedef struct {
    guint64 bytes;
} GuestOff; /* from the start of the virtual disk */
typedef struct {
    guint64 bytes;
} HostOff; /* from the start of the image file */

static inline GuestOff
guest_off(guint64 bytes)
{
    return (GuestOff){ bytes };
}

static inline HostOff
host_off(guint64 bytes)
{
    return (HostOff){ bytes };
}

typedef enum {
    RUN_HOLE,       /* not in this image: the backing image, or zeros where there is none */
    RUN_ZERO,       /* reads as zeros, whatever the backing image holds */
    RUN_DATA,       /* bytes at @host */
    RUN_COMPRESSED, /* one cluster, to be read by the format's inflate: packed, or enciphered in a way of the
                       format's own */
} RunKind;

typedef struct {
    RunKind kind;
    HostOff host; /* DATA, and ZERO or HOLE with @allocated: where its space lies; COMPRESSED: where its bytes
                     start */
    guint64 bytes;      /* length on the guest side; > 0 */
    gboolean allocated; /* it has space in this file (always for DATA and COMPRESSED) */
} Run;

/* A place made ready for guest bytes by prepare: the caller writes all of [at, at + bytes) to @host (filling
 * what the guest did not write from what the range reads as now), then calls commit or
 * abandon, once. Meanwhile whoever wants the same place waits. */
typedef struct {
    GuestOff at;
    HostOff host;
    guint64 bytes;     /* > 0 */
    gboolean in_place; /* the bytes are already mapped there: commit has nothing to publish, and only the
                          bytes that the guest wrote need writing */
} Place;

#endif
