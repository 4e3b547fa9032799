/* The list of the snapshots inside an image, as qemu-img prints it: what `img info` and `img snapshot` share.
 */
#ifndef KHO_CLI_IMG_SNAPSHOTS_H
#define KHO_CLI_IMG_SNAPSHOTS_H

#include <kho/image.h>

struct json_t;

/* @snapshots: of KhoImageSnapshot */
void img_print_snapshots(const GPtrArray *snapshots);
struct json_t *img_snapshots_json(const GPtrArray *snapshots);

#endif
