/* A store that en- and deciphers what lies in another one, sector by sector. Where the key comes from is not
 * its business (luks/). */
#ifndef KHO_BLOCK_CRYPT_H
#define KHO_BLOCK_CRYPT_H

#include "block/blk.h"
#include "block/cipher.h"

/* Over @below, which stays its owner's and outlives it; offsets and sizes are @below's, and sectors are
 * numbered by them. Locked: until it has a key nothing is read or written (KHO_ERROR_DENIED, naming the
 * store). There is no descriptor behind it, and zeros are written as any other bytes. */
BlkStore *blk_crypt_new(BlkStore *below);

/* The same over what lies behind the first @skipped bytes of @below: offsets, sizes and sectors count from
 * there. */
BlkStore *blk_crypt_new_behind(BlkStore *below, guint64 skipped);

/* Takes @cipher over. Before any other thread uses the store. */
void blk_crypt_unlock(BlkStore *crypt, SectorCipher *cipher);

#endif
