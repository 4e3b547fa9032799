/* Numbers: checked arithmetic, sizes as people write and read them, big-endian loads and stores. */
#ifndef KHO_BASE_NUM_H
#define KHO_BASE_NUM_H

#include <glib.h>

#define KIB (G_GUINT64_CONSTANT(1) << 10)
#define MIB (G_GUINT64_CONSTANT(1) << 20)
#define GIB (G_GUINT64_CONSTANT(1) << 30)
#define TIB (G_GUINT64_CONSTANT(1) << 40)

/* The largest size of a file or a virtual disk that off_t and QEMU can address, in bytes. */
#define NUM_OFFSET_MAX ((guint64) G_MAXINT64)

/* TRUE and *sum set, or FALSE on overflow. */
static inline gboolean
num_add(guint64 a, guint64 b, guint64 *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline gboolean
num_mul(guint64 a, guint64 b, guint64 *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* @unit is a power of two. num_align_up: @value + @unit must not overflow (callers bound sizes by
 * NUM_OFFSET_MAX first). */
static inline guint64
num_align_down(guint64 value, guint64 unit)
{
    return value & ~(unit - 1);
}

static inline guint64
num_align_up(guint64 value, guint64 unit)
{
    return (value + unit - 1) & ~(unit - 1);
}

static inline gboolean
num_is_pow2(guint64 value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static inline guint64
num_div_up(guint64 value, guint64 by)
{
    return value / by + (value % by != 0);
}

static inline guint16
be16_load(const void *from)
{
    const guint8 *b = from;
    return (guint16) (b[0] << 8 | b[1]);
}

static inline guint32
be32_load(const void *from)
{
    guint32 v;
    __builtin_memcpy(&v, from, sizeof v);
    return GUINT32_FROM_BE(v);
}

static inline guint64
be64_load(const void *from)
{
    guint64 v;
    __builtin_memcpy(&v, from, sizeof v);
    return GUINT64_FROM_BE(v);
}

static inline void
be16_store(void *to, guint16 v)
{
    v = GUINT16_TO_BE(v);
    __builtin_memcpy(to, &v, sizeof v);
}

static inline void
be32_store(void *to, guint32 v)
{
    v = GUINT32_TO_BE(v);
    __builtin_memcpy(to, &v, sizeof v);
}

static inline void
be64_store(void *to, guint64 v)
{
    v = GUINT64_TO_BE(v);
    __builtin_memcpy(to, &v, sizeof v);
}

/**
 * num_parse_size:
 * @text: decimal digits, optionally a fraction ("1.5G"), and one suffix: b, k K KiB, M MiB, G GiB, T TiB,
 *        P PiB, E EiB (powers of 1024), or KB MB GB TB (powers of 1000); no suffix means @default_unit_bytes
 * @default_unit_bytes: the unit of a bare number, in bytes; > 0
 * @bytes: (out): the size in bytes, at most NUM_OFFSET_MAX
 *
 * Returns: FALSE with KHO_ERROR_INVALID naming @text where it is not a size, is negative, or overflows.
 */
gboolean num_parse_size(const char *text, guint64 default_unit_bytes, guint64 *bytes, GError **error);

/* The bytes of one unit word as libvirt's XML writes it ("b", "bytes", "KB", "k", "KiB", "M", ...), or 0. */
guint64 num_unit_bytes(const char *unit);

/* "10 GiB", "196 KiB", "1.5 GiB": three significant digits, as qemu-img prints sizes. */
char *num_format_size(guint64 bytes);

/* A whole decimal number of at most @max, nothing before or after it. KHO_ERROR_INVALID names @what. */
gboolean num_parse_uint(const char *text, guint64 max, const char *what, guint64 *value, GError **error);

#endif
