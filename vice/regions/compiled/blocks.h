/* What the maps of a batch, their blocks and the patches of these are: for all of this folder.
 *
 * Formulas and names as in vice/regions/means.py and representatives.py. A block is the pixels
 * between the same four cells, a patch those of one region in a block, a run those of a patch that
 * lie side by side on a line. Lengths of pixels are mixed of inner products of cells in double
 * precision. What a pixel gives to its cells is summed up over a run, a patch or a block, as a
 * handful of scalars in double precision. A map is computed by one thread, in one order, so results
 * do not depend on how many there are.
 */
#ifndef VICE_BLOCKS_H
#define VICE_BLOCKS_H

#include <stdint.h>

/* What all maps of a batch have in common. */
typedef struct {
    const float *cells;    /* (maps, grid_height, grid_width, dim) */
    const int32_t *row;    /* (maps, height, width), region of each pixel, counted over all maps */
    const int32_t *bounds; /* (maps + 1), where the regions of each map begin */
    const int32_t *y_low, *x_low;   /* cell before each pixel, along each axis */
    const float *y_share, *x_share; /* share of the cell after it */
    int32_t dim, grid_height, grid_width, height, width;
    int32_t first, last; /* the maps that are computed now */
    int32_t *next;       /* the first of them that no thread has taken */
} Batch;

/* One map. */
typedef struct {
    const float *cells;
    const int32_t *row;
    int32_t first, last;
    int64_t pixels; /* place of its first pixel */
    int64_t places; /* place of its first cell */
} Map;

/* The pixels between the same four cells. */
typedef struct {
    int32_t top, bottom, left, right;
    int64_t corner[4]; /* places of the cells, within the map */
} Block;

static inline int take(const Batch *batch, Map *map) {
    int32_t number = __atomic_fetch_add(batch->next, 1, __ATOMIC_RELAXED);
    if (number >= batch->last) return 0;
    map->pixels = (int64_t)number * batch->height * batch->width;
    map->places = (int64_t)number * batch->grid_height * batch->grid_width;
    map->cells = batch->cells + map->places * batch->dim;
    map->row = batch->row + map->pixels;
    map->first = batch->bounds[number];
    map->last = batch->bounds[number + 1];
    return 1;
}

/* The four cells of a block, from its upper left one; on a border the next cell is that one itself.
 */
static inline void find_corners(const Batch *batch, int32_t y, int32_t x, int64_t *corner) {
    const int64_t below = y + 1 < batch->grid_height ? batch->grid_width : 0;
    const int64_t beside = x + 1 < batch->grid_width;
    corner[0] = (int64_t)y * batch->grid_width + x;
    corner[1] = corner[0] + beside;
    corner[2] = corner[0] + below;
    corner[3] = corner[2] + beside;
}

/* The next block in scan order; begins with one that is zero. */
static inline int advance(const Batch *batch, Block *block) {
    if (block->right < batch->width && block->bottom) {
        block->left = block->right;
    } else {
        if (block->bottom == batch->height) return 0;
        block->top = block->bottom;
        block->left = 0;
        const int32_t low = batch->y_low[block->top];
        do block->bottom++;
        while (block->bottom < batch->height && batch->y_low[block->bottom] == low);
    }
    const int32_t x = batch->x_low[block->left];
    block->right = block->left;
    do block->right++;
    while (block->right < batch->width && batch->x_low[block->right] == x);
    find_corners(batch, batch->y_low[block->top], x, block->corner);
    return 1;
}

static inline int inside(const Map *map, int32_t row) {
    return row >= map->first && row < map->last;
}

/* Double precision: what is left of numbers that cancel is right. */
static inline double dot(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* Pixels of a region side by side on a line of a block. */
typedef struct {
    int32_t row, begin, end;
} Run;

/* The next run of a line; begins with one that ends where the block begins. */
static inline int next_run(const Map *map, const int32_t *line, const Block *block, Run *run) {
    while (run->end < block->right) {
        run->begin = run->end;
        run->row = line[run->begin];
        do run->end++;
        while (run->end < block->right && line[run->end] == run->row);
        if (inside(map, run->row)) return 1;
    }
    return 0;
}

/* Four pixels of a run at a time, in the compiler's vectors; what is not of the run is 0. */
#define ABREAST 4
typedef float Floats __attribute__((vector_size(4 * ABREAST), aligned(4)));
typedef double Doubles __attribute__((vector_size(8 * ABREAST), aligned(8)));
typedef int32_t Ints __attribute__((vector_size(4 * ABREAST), aligned(4)));
typedef int64_t Longs __attribute__((vector_size(8 * ABREAST), aligned(8)));

/* Numbers of a line from `at` on; those after `end` are 0. */
static inline Doubles load(const float *line, int32_t at, int32_t end, int32_t width) {
    static const int32_t mask[2 * ABREAST] = {-1, -1, -1, -1};
    const int32_t count = end - at;
    Floats found = {0};
    if (at + ABREAST <= width)
        found = *(const Floats *)(line + at);
    else
        for (int32_t i = 0; i < count; i++) found[i] = line[at + i];
    if (count < ABREAST) found = (Floats)((Ints)found & *(const Ints *)(mask + ABREAST - count));
    return __builtin_convertvector(found, Doubles);
}

/* Numbers that as many more follow in memory; what is not of the run is any number. */
static inline Doubles load_all(const double *from) { return *(const Doubles *)from; }

/* Numbers where it is so, else 0, whatever else is there. */
static inline Doubles only(Longs is_so, Doubles numbers) {
    return (Doubles)(is_so & (Longs)numbers);
}

static inline double add_up(Doubles lanes) { return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]); }

#endif
