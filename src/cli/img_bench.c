/* kho img bench. */
#include "cli/img_options.h"
#include "cli/output.h"

#include <jansson.h>
#include <kho/image_change.h>

typedef struct {
    const char *path, *format, *output;
    char **secrets;
    guint64 count, depth, request_bytes, step_bytes, start_bytes, flush_every, pattern;
    gboolean write, no_drain, share, force;
} BenchArgs;

static const CliArg bench_args[] = {
    { CLI_STR, "FILE", offsetof(BenchArgs, path), NULL, "image to read, or to write", .object = CLI_FILE },
    { CLI_UINT, "--count", offsetof(BenchArgs, count), "75000", "how many requests", 'c', .max = G_MAXINT32 },
    { CLI_UINT, "--depth", offsetof(BenchArgs, depth), "64", "how many at a time", 'd',
      .max = KHO_BENCH_DEPTH_MAX },
    { CLI_CHOICE, "--format", offsetof(BenchArgs, format), CLI_OPTIONAL, "its format; otherwise it is probed",
      'f', .choices = "qcow2|raw" },
    { CLI_SIZE, "--buffer-size", offsetof(BenchArgs, request_bytes), "4k", "how large each is", 's' },
    { CLI_SIZE, "--step-size", offsetof(BenchArgs, step_bytes), CLI_OPTIONAL,
      "from where one begins to where the next one does; otherwise their size", 'S' },
    { CLI_SIZE, "--offset", offsetof(BenchArgs, start_bytes), "0", "where the first one begins", 'o' },
    { CLI_FLAG, "--write", offsetof(BenchArgs, write), "no", "write: what the image holds is lost", 'w' },
    { CLI_UINT, "--pattern", offsetof(BenchArgs, pattern), "0", "the byte that is written", .max = 255 },
    { CLI_UINT, "--flush-interval", offsetof(BenchArgs, flush_every), "0",
      "flush after so many requests; 0: never" },
    { CLI_FLAG, "--no-drain", offsetof(BenchArgs, no_drain), "no",
      "do not wait for those under way before a flush" },
    IMG_OUTPUT_ARG(BenchArgs),
    { CLI_FLAG, "--force-share", offsetof(BenchArgs, share), "no", "read although another process writes it",
      'U' },
    { CLI_FLAG, "--force", offsetof(BenchArgs, force), "no",
      "with --write: also a disk of a machine that has a managed save, whose memory then does not fit it" },
    IMG_SECRET_ARG(BenchArgs),
    { 0 },
};

static void
print_result(CliRun *cli, const BenchArgs *a, double seconds)
{
    double rate = (double) a->count / MAX(seconds, 1e-9);

    if (img_wants_json(cli, a->output)) {
        out_json(json_pack("{s:I,s:I,s:I,s:b,s:f,s:f}", "requests", (json_int_t) a->count, "request-bytes",
                           (json_int_t) a->request_bytes, "depth", (json_int_t) a->depth, "write", a->write,
                           "seconds", seconds, "requests-per-second", rate));
        return;
    }
    out_print("%" G_GUINT64_FORMAT " %s requests of %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT
              " at a time: %3.3f seconds, %.0f requests and %.1f MiB a second\n",
              a->count, a->write ? "write" : "read", a->request_bytes, a->depth, seconds, rate,
              rate * (double) a->request_bytes / (1 << 20));
}

static gboolean
run_bench(CliRun *cli, const void *p, GError **error)
{
    const BenchArgs *a = p;
    const KhoImageBench bench = {
        .write = a->write,
        .pattern = (guint8) a->pattern,
        .requests = a->count,
        .request_bytes = a->request_bytes,
        .step_bytes = a->step_bytes,
        .start_bytes = a->start_bytes,
        .depth = (guint) a->depth,
        .flush_every = a->flush_every,
        .keep_flying = a->no_drain,
    };
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);
    const KhoImageSource source = { .path = a->path,
                                    .format = a->format,
                                    .flags = a->share && !a->write ? KHO_IMAGE_NO_LOCK : 0,
                                    .gate = &kho_image_gate_open,
                                    .job = cli->job,
                                    .secrets = secrets };
    double seconds;

    if (!secrets)
        return FALSE;
    if (a->write
        && (!img_check_writable(cli, a->path, error)
            || (!a->force && !img_check_unsaved(cli, a->path, error))))
        return FALSE;
    if (!kho_image_bench(&source, &bench, &seconds, error))
        return FALSE;
    print_result(cli, a, seconds);
    return TRUE;
}

const CliVerb verb_img_bench = {
    .name = "img-bench",
    .noun = "img",
    .summary = "how fast an image is read, or written",
    .examples = "kho img bench -c 10000 -s 64k disk.qcow2\n"
                "kho img bench -w -c 1000 -d 16 --flush-interval 100 scratch.qcow2",
    .args = bench_args,
    .args_bytes = sizeof(BenchArgs),
    .json = TRUE,
    .run = run_bench,
};
