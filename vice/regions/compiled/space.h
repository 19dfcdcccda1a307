/* Memory of a thread. */
#ifndef VICE_SPACE_H
#define VICE_SPACE_H

#include <stdlib.h>

#include "lengths.h"
#include "patches.h"

/* Most pixels that a block has. */
static inline int64_t largest_block(const Batch *batch) {
    int64_t most = 0;
    for (Block block = {0}; advance(batch, &block);) {
        const int64_t count = (int64_t)(block.bottom - block.top) * (block.right - block.left);
        if (count > most) most = count;
    }
    return most;
}

/* Space for a thread: two wide vectors, what lengths are found of, and the patches of a block. */
typedef struct {
    float *wide;
    double *products, *lines, *squares, *across;
    Patches patches;
} Space;

static inline int reserve(const Batch *batch, int64_t dim, Space *space) {
    const size_t cells = (size_t)batch->grid_height * (size_t)batch->grid_width;
    const size_t width = (size_t)batch->width, most = (size_t)largest_block(batch) + 1;
    size_t regions = 0;
    for (int32_t map = batch->first; map < batch->last; map++) {
        const size_t own = (size_t)(batch->bounds[map + 1] - batch->bounds[map]);
        if (own > regions) regions = own;
    }
    Patches *patches = &space->patches;
    space->wide = malloc(sizeof(float) * 2 * (size_t)dim);
    space->products = malloc(sizeof(double) * PRODUCTS * cells);
    space->lines = malloc(sizeof(double) * 4 * width);
    space->squares = malloc(sizeof(double) * ((size_t)batch->height * width + ABREAST));
    space->across = malloc(sizeof(double) * (width + ABREAST));
    patches->row = malloc(sizeof(int32_t) * most);
    patches->total = malloc(sizeof(double) * 4 * most);
    patches->along = malloc(sizeof(double) * 4 * most);
    patches->square = malloc(sizeof(double) * most);
    patches->patch = malloc(sizeof(int32_t) * (regions + 1));
    patches->count = 0;
    if (!space->wide || !space->products || !space->lines || !space->squares || !space->across ||
        !patches->row || !patches->total || !patches->along || !patches->square || !patches->patch)
        return 0;
    /* What is read beyond the last pixel counts for nothing, but has to be there. */
    for (int i = 0; i < ABREAST; i++) space->squares[(size_t)batch->height * width + i] = 0;
    for (size_t x = 0; x < width + ABREAST; x++)
        space->across[x] = x < width ? batch->x_share[x] : 0;
    for (size_t region = 0; region < regions; region++) patches->patch[region] = -1;
    return 1;
}

static inline int release(Space *space, int status) {
    free(space->wide);
    free(space->products);
    free(space->lines);
    free(space->squares);
    free(space->across);
    free(space->patches.row);
    free(space->patches.total);
    free(space->patches.along);
    free(space->patches.square);
    free(space->patches.patch);
    return status;
}

#endif
