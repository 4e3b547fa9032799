/* qcow2 check against `qemu-img check`: the same counts on images that qemu-img made, whole and damaged in
 * their metadata at random (a failing round's seed is printed; KHO_ROUND replays it alone). */
#include "qcow2/check.h"

#include "base/num.h"

#include <glib/gstdio.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define DAMAGED_ROUNDS 6 /* an image; KHO_SOAK multiplies */

typedef struct {
    const char *name;
    const char *script; /* of sh; $i is the image */
    gboolean stricter;  /* kho reports what QEMU passes over: version 2 reserves the zero flag */
    gboolean luks;      /* QEMU wants the key before it looks; kho's check needs none */
} Recipe;

#define IO(commands) "qemu-io -f qcow2 " commands " $i >/dev/null; "

static const Recipe recipes[] = {
    { "empty", "qemu-img create -q -f qcow2 -o cluster_size=4k $i 1M" },
    { "plain",
      "qemu-img create -q -f qcow2 $i 64M; " IO("-c 'write 1M 5M' -c 'write 40M 1' -c 'write -z 50M 1M'") },
    { "tiny clusters",
      "qemu-img create -q -f qcow2 -o cluster_size=512 $i 2M; " IO("-c 'write 3k 300k' -c 'write 1M 64k'") },
    { "64-bit counts",
      "qemu-img create -q -f qcow2 -o cluster_size=1k,refcount_bits=64 $i 3M; " IO("-c 'write 0 1M'") },
    { "1-bit counts",
      "qemu-img create -q -f qcow2 -o cluster_size=2k,refcount_bits=1 $i 3M; " IO("-c 'write 5k 1M'") },
    { "4-bit counts, snapshots", "qemu-img create -q -f qcow2 -o cluster_size=2k,refcount_bits=4 $i 1M; " IO(
                                     "-c 'write 0 300k'") "qemu-img snapshot -c a $i; qemu-img snapshot -c b "
                                                          "$i; " IO("-c 'write 40k 50k'") },
    { "version 2",
      "qemu-img create -q -f qcow2 -o compat=0.10,cluster_size=4k $i 1M; " IO(
          "-c 'write 0 300k'") "qemu-img snapshot -c a $i; " IO("-c 'write 100k 50k'"),
      TRUE },
    { "snapshot deleted", "qemu-img create -q -f qcow2 -o cluster_size=4k $i 1M; " IO(
                              "-c 'write 0 100k'") "qemu-img snapshot -c a $i; qemu-img snapshot -c b "
                                                   "$i; " IO("-c 'write 50k 150k'") "qemu-img snapshot -d a "
                                                                                    "$i" },
    { "compressed",
      "qemu-img create -q -f raw $i.raw 512k; qemu-io -f raw -c 'write -P 3 10k 300k' $i.raw >/dev/null; "
      "qemu-img convert -c -O qcow2 -o cluster_size=4k $i.raw $i; rm $i.raw; " IO("-c 'write 20k 8k'") },
    { "zero clusters with space",
      "qemu-img create -q -f qcow2 -o cluster_size=4k $i 1M; " IO("-c 'write 0 64k' -c 'write -z 8k 16k'") },
    { "extended L2", "qemu-img create -q -f qcow2 -o cluster_size=16k,extended_l2=on $i 4M; " IO(
                         "-c 'write 1k 3k' -c 'write 100k 100k' -c 'write -z 120k 4k'") },
    { "bitmaps",
      "qemu-img create -q -f qcow2 -o cluster_size=4k $i 4M; qemu-img bitmap --add -g 512 $i b0; " IO(
          "-c 'write 64k 128k'") "qemu-img bitmap --add $i b1" },
    /* On a busy machine QEMU at times cannot measure how fast it derives keys: it is asked again. */
    { "LUKS",
      "n=0; until qemu-img create -q --object secret,id=s,data=x -f qcow2 -o encrypt.format=luks,"
      "encrypt.key-secret=s,encrypt.iter-time=100,cluster_size=4k $i 1M 2>/dev/null; "
      "do n=$((n+1)); [ $n -lt 50 ]; done",
      .luks = TRUE },
    { "preallocated", "qemu-img create -q -f qcow2 -o preallocation=metadata,cluster_size=4k $i 1M" },
};

static char *folder, *path;

static guint
rounds_factor(void)
{
    return g_getenv("KHO_SOAK") ? 10 : 1;
}

static void
run_script(const char *script)
{
    g_autofree char *text = g_strdup_printf("set -e; i=%s; %s", path, script);
    const char *argv[] = { "sh", "-c", text, NULL };
    g_autoptr(GError) error = NULL;
    gint status = 0;

    g_spawn_sync(NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status, &error);
    g_assert_no_error(error);
    g_assert_cmpint(status, ==, 0);
}

/* What qemu-img check says of the file at @path; NULL where it refuses to look. */
static json_t *
ask_qemu(gboolean luks)
{
    g_autofree char *keyed = g_strdup_printf("driver=qcow2,encrypt.key-secret=s,file.filename=%s", path);
    const char *plain_argv[] = { "qemu-img", "check", "--output=json", "-f", "qcow2", path, NULL };
    const char *luks_argv[] = { "qemu-img",           "check",        "--output=json", "--object",
                                "secret,id=s,data=x", "--image-opts", keyed,           NULL };
    const char **argv = luks ? luks_argv : plain_argv;
    g_autofree char *out = NULL;
    g_autoptr(GError) error = NULL;

    g_spawn_sync(NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                 &out, NULL, NULL, &error);
    g_assert_no_error(error);
    return json_loads(out, 0, NULL);
}

static guint64
number(json_t *answer, const char *key)
{
    return (guint64) json_integer_value(json_object_get(answer, key));
}

static guint
count_overlaps(const GPtrArray *messages)
{
    guint n = 0;

    for (guint i = 0; i < messages->len; i++)
        n += strstr(messages->pdata[i], "different things") != NULL;
    return n;
}

/* A check that has no room finds the same, window by window. */
static void
compare_windows(BlkStore *file, const FormatCheck *whole)
{
    FormatCheck found = { 0 };
    g_auto(Qcow2Check) check = { .file = file, .room_bytes = 1, .result = &found };
    g_autoptr(GError) error = NULL;

    g_assert_true(qcow2_check_begin(&check, &error));
    g_assert_true(qcow2_check_run(&check, &error));
    g_assert_cmpuint(found.corruptions, ==, whole->corruptions);
    g_assert_cmpuint(found.leaks, ==, whole->leaks);
    g_assert_cmpuint(found.check_errors, ==, whole->check_errors);
    g_assert_cmpuint(found.copied_missing, ==, whole->copied_missing);
    g_assert_cmpuint(found.allocated_clusters, ==, whole->allocated_clusters);
    g_assert_cmpuint(found.fragmented_clusters, ==, whole->fragmented_clusters);
    g_assert_cmpuint(found.image_end_offset_bytes, ==, whole->image_end_offset_bytes);
}

/* TRUE when both could look. Overlaps that agree with the refcounts are found by kho alone. */
static gboolean
compare(const Recipe *recipe, FormatCheck *found)
{
    g_autoptr(BlkStore) file = blk_file_open(path, FALSE, NULL);
    g_autoptr(GPtrArray) messages = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    json_t *qemu = ask_qemu(recipe->luks);

    *found = (FormatCheck){ .messages = messages };
    gboolean ok = qcow2_check_file(file, found, NULL, &error);
    found->messages = NULL;
    if (ok)
        compare_windows(file, found);
    if (!ok || !qemu) {
        g_test_message("kho: %s; qemu-img: %s", ok ? "checked" : error->message,
                       qemu ? "checked" : "refused");
        json_decref(qemu);
        return FALSE;
    }
    guint64 extra = count_overlaps(messages), qemu_corruptions = number(qemu, "corruptions");
    for (guint i = 0; i < MIN(messages->len, 10); i++)
        g_test_message("%s", (char *) messages->pdata[i]);
    if (recipe->stricter)
        g_assert_cmpuint(found->corruptions, >=, qemu_corruptions);
    else
        g_assert_cmpuint(found->corruptions - extra, ==, qemu_corruptions);
    g_assert_cmpuint(found->leaks, ==, number(qemu, "leaks"));
    g_assert_cmpuint(found->check_errors, ==, number(qemu, "check-errors"));
    g_assert_cmpuint(found->total_clusters, ==, number(qemu, "total-clusters"));
    g_assert_cmpuint(found->allocated_clusters, ==, number(qemu, "allocated-clusters"));
    g_assert_cmpuint(found->fragmented_clusters, ==, number(qemu, "fragmented-clusters"));
    g_assert_cmpuint(found->compressed_clusters, ==, number(qemu, "compressed-clusters"));
    g_assert_cmpuint(found->image_end_offset_bytes, ==, number(qemu, "image-end-offset"));
    json_decref(qemu);
    return TRUE;
}

static void
test_whole(gconstpointer data)
{
    const Recipe *recipe = data;
    FormatCheck found;

    run_script(recipe->script);
    g_assert_true(compare(recipe, &found));
    g_assert_cmpuint(found.corruptions, ==, 0);
    g_assert_cmpuint(found.leaks, ==, 0);
    g_assert_cmpuint(found.check_errors, ==, 0);
}

/* Changes one 8-byte word that is not zero, most often in a way that keeps it near to the truth. */
static void
damage(guint8 *image, gsize len, GRand *rand)
{
    gsize at = 0;

    for (guint tries = 0; tries < 1000; tries++) {
        /* Beyond the header's fields and clusters of guest data (which qemu-io fills with 0xcd). */
        at = (gsize) g_rand_int_range(rand, 64, (gint) (len / 8)) * 8;
        guint64 word = be64_load(image + at);
        if (word != 0 && word != G_GUINT64_CONSTANT(0xcdcdcdcdcdcdcdcd))
            break;
    }
    guint64 word = be64_load(image + at);
    switch (g_rand_int_range(rand, 0, 6)) {
    case 0: word = 0; break;
    case 1: word ^= G_GUINT64_CONSTANT(1) << 63; break;
    case 2: word ^= G_GUINT64_CONSTANT(1) << g_rand_int_range(rand, 0, 64); break;
    case 3: word += 4096; break;
    case 4: word = (guint64) g_rand_int(rand) << 32 | g_rand_int(rand); break;
    default: word ^= G_GUINT64_CONSTANT(1) << g_rand_int_range(rand, 9, 20); break;
    }
    be64_store(image + at, word);
}

static void
test_damaged(gconstpointer data)
{
    const Recipe *recipe = data;
    guint32 base = g_str_hash(recipe->name), looked = 0;
    const char *only = g_getenv("KHO_ROUND");
    guint rounds = only ? 1 : DAMAGED_ROUNDS * rounds_factor();
    g_autofree char *whole = NULL;
    gsize len;

    run_script(recipe->script);
    g_assert_true(g_file_get_contents(path, &whole, &len, NULL));
    for (guint i = 0; i < rounds; i++) {
        guint32 seed = only ? (guint32) strtoul(only, NULL, 10) : base + i;
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        g_autofree guint8 *image = g_memdup2(whole, len);
        FormatCheck found;

        g_test_message("seed %u", seed);
        for (gint n = g_rand_int_range(rand, 1, 4); n > 0; n--)
            damage(image, len, rand);
        g_assert_true(g_file_set_contents_full(path, (char *) image, (gssize) len, G_FILE_SET_CONTENTS_NONE,
                                               0600, NULL));
        looked += compare(recipe, &found);
    }
    g_test_message("%u of %u looked at by both", looked, rounds);
    g_assert_cmpuint(looked, >, 0);
}

/* Two tables of different kinds in one cluster whose refcount agrees: QEMU passes over it. */
static void
test_overlap(void)
{
    g_autofree char *image = NULL;
    g_autoptr(GPtrArray) messages = g_ptr_array_new_with_free_func(g_free);
    FormatCheck found = { .messages = messages };
    gsize len;

    run_script("qemu-img create -q -f qcow2 -o cluster_size=4k $i 1M; " IO("-c 'write 0 8k'"));
    g_assert_true(g_file_get_contents(path, &image, &len, NULL));
    guint64 l2_off = be64_load(image + be64_load(image + 40)) & (G_GUINT64_CONSTANT(0x00fffffffffffe00));
    guint64 block_off = be64_load(image + be64_load(image + 48));
    be64_store(image + l2_off, l2_off); /* guest cluster 0 lies in the L2 table itself, without COPIED */
    be64_store(image + be64_load(image + 40), l2_off);
    be16_store(image + block_off + l2_off / 4096 * 2, 2);
    g_autoptr(BlkStore) mem = blk_mem_new(image, len, "image");
    g_assert_true(qcow2_check_file(mem, &found, NULL, NULL));
    g_assert_cmpuint(found.corruptions, ==, 1);
    g_assert_nonnull(strstr(messages->pdata[0], "different things"));
}

static void
test_cancel(void)
{
    FormatCheck found = { .corruptions = 77 };
    gint cancelled = 1;
    KhoJob job = { .cancelled = &cancelled };
    g_autoptr(GError) error = NULL;

    run_script("qemu-img create -q -f qcow2 -o cluster_size=4k $i 1M; " IO("-c 'write 0 8k'"));
    g_autoptr(BlkStore) file = blk_file_open(path, FALSE, NULL);
    g_assert_false(qcow2_check_file(file, &found, &job, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CANCELLED);
    g_assert_cmpuint(found.corruptions, ==, 77);
}

static void
test_not_qcow2(void)
{
    g_autoptr(BlkStore) mem = blk_mem_new("QFI", 3, "image");
    FormatCheck found = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_false(qcow2_check_file(mem, &found, NULL, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("kho-check-XXXXXX", NULL);
    path = g_build_filename(folder, "image", NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(recipes); i++) {
        g_autofree char *slug = g_strdelimit(g_strdup(recipes[i].name), " ,", '-');
        g_autofree char *whole = g_strdup_printf("/check/whole/%s", slug);
        g_autofree char *damaged = g_strdup_printf("/check/damaged/%s", slug);
        g_test_add_data_func(whole, &recipes[i], test_whole);
        if (!recipes[i].luks) /* nearly all damage hits the key there, and QEMU then refuses to look */
            g_test_add_data_func(damaged, &recipes[i], test_damaged);
    }
    g_test_add_func("/check/overlap", test_overlap);
    g_test_add_func("/check/cancel", test_cancel);
    g_test_add_func("/check/not-qcow2", test_not_qcow2);
    int status = g_test_run();
    g_unlink(path);
    g_rmdir(folder);
    g_free(path);
    g_free(folder);
    return status;
}
