#include "qemuimg/help.h"

#include "qemuimg/output.h"
#include "qemuimg/verbs.h"

/* Which qemu-img this face is measured against: programs look at the number to know what they may ask for. */
#define AS_VERSION "7.2.22"

void
qimg_version_print(void)
{
    qimg_print("qemu-img version " AS_VERSION " (kho " KHO_VERSION ")\n"
               "kho, which takes qemu-img's arguments under this name; `kho img --help` tells of its own.\n");
}

void
qimg_help_print(void)
{
    qimg_version_print();
    qimg_print("usage: qemu-img [standard options] command [command options]\n\n"
               "    '-h', '--help'       print this help\n"
               "    '-V', '--version'    print the version\n"
               "\nCommand syntax:\n");
    for (gsize i = 0; i < qimg_n_verbs; i++)
        qimg_print("  %s %s\n", qimg_verbs[i]->name, qimg_verbs[i]->synopsis);
    qimg_print(
        "\nCommand parameters:\n"
        "  filename      a path, file:PATH, json:{...}; with --image-opts: driver=FORMAT,file.filename=PATH\n"
        "  fmt           qcow2, raw or luks; where it is not given it is found by looking at the image\n"
        "  size          bytes, or with a suffix: k, M, G, T, P, E (powers of 1024)\n"
        "  options       NAME=VALUE[,NAME=VALUE...]; -o help lists those of a format\n"
        "  objectdef     secret,id=ID,data=TEXT or secret,id=ID,file=PATH, with format=raw or base64\n"
        "  cache         none, writeback, writethrough, directsync, unsafe: taken; kho's own order of writes "
        "is kept\n"
        "  snapshot_param  name or id of an internal snapshot, or snapshot.id=ID,snapshot.name=NAME\n"
        "  -p            show how far it is\n"
        "  -q            print errors only\n"
        "  -U            look at an image although another process writes it\n"
        "  --output      human or json\n"
        "\nSupported formats: raw qcow2 luks\n");
}
