/* What is summed up over the pixels of a patch, and what it gives to its cells. */
#ifndef VICE_PATCHES_H
#define VICE_PATCHES_H

#include "blocks.h"

/* The patches of a block, and what is found of each. */
typedef struct {
    int32_t count;
    int32_t *row;   /* its region */
    double *total;  /* (patches, 4), sums of its pixels' shares of the cells */
    double *along;  /* (patches, 4), inner products of its region's vector with the cells */
    double *square; /* of that vector with itself */
    int32_t *patch; /* of each region of a map, -1 for none yet */
} Patches;

/* The patch of a region; a new one, with sums of zero, is the last. */
static inline int32_t patch_of(const Map *map, int32_t row, Patches *patches) {
    int32_t *patch = patches->patch + (row - map->first);
    if (*patch < 0) {
        *patch = patches->count++;
        patches->row[*patch] = row;
        for (int corner = 0; corner < 4; corner++) patches->total[4 * *patch + corner] = 0;
    }
    return *patch;
}

static inline void forget(const Map *map, Patches *patches) {
    for (int32_t patch = 0; patch < patches->count; patch++)
        patches->patch[patches->row[patch] - map->first] = -1;
    patches->count = 0;
}

/* Adds sums over a run to its patch: of numbers of pixels, and of these times shares across. */
static inline void add_run(Patches *patches, int32_t patch, double down, Doubles all, Doubles far) {
    const Doubles halves =
        (Doubles){all[0], far[0], all[1], far[1]} + (Doubles){all[2], far[2], all[3], far[3]};
    const double whole = halves[0] + halves[2], beside = halves[1] + halves[3];
    const double near = whole - beside;
    *(Doubles *)(patches->total + 4 * patch) +=
        (Doubles){1 - down, 1 - down, down, down} * (Doubles){near, beside, near, beside};
}

/* Adds a patch's sums of shares, times vector, to its four cells. */
static inline void give(const Block *block, const double *sums, const float *vector, int64_t n,
                        float *of_cells) {
    for (int corner = 0; corner < 4; corner++) {
        float *restrict cell = of_cells + block->corner[corner] * n;
        const float sum = (float)sums[corner];
        for (int64_t i = 0; i < n; i++) cell[i] += sum * vector[i];
    }
}

/* The transposed sum: what a patch takes of its four cells. */
static inline void draw(const Block *block, const double *sums, const float *table, int64_t n,
                        float *restrict vector) {
    const float *a = table + block->corner[0] * n, *b = table + block->corner[1] * n;
    const float *c = table + block->corner[2] * n, *d = table + block->corner[3] * n;
    const float p = (float)sums[0], q = (float)sums[1], r = (float)sums[2], s = (float)sums[3];
    for (int64_t i = 0; i < n; i++) vector[i] += p * a[i] + q * b[i] + r * c[i] + s * d[i];
}

/* Values of four cells, mixed down for a line: the left one, and the step to the right. */
typedef struct {
    double left, step;
} Line;

static inline Line line_of(const double *values, double down) {
    const double left = values[0] + down * (values[2] - values[0]);
    const double right = values[1] + down * (values[3] - values[1]);
    return (Line){left, right - left};
}

/* Sums of number w w^T over pixels: what they have of cells above and below, and beside.
 *
 * w is a product of a share down and one across, so nine sums hold all sixteen products.
 */
typedef struct {
    double sum[3][3]; /* [0 above twice, 1 above and below, 2 below twice][the same across] */
} Stencil;

/* Adds sums over a line: of numbers of pixels, and of these times shares across, once and twice. */
static inline void add_outer(Stencil *stencil, double down, const Doubles *moments) {
    const double up = 1 - down, weights[3] = {up * up, up * down, down * down};
    const double all = add_up(moments[0]), far = add_up(moments[1]), twice = add_up(moments[2]);
    const double across[3] = {all - far - (far - twice), far - twice, twice};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) stencil->sum[i][j] += weights[i] * across[j];
}

/* Inner products of a vector with the cells of a block, and with itself, which is returned. */
static inline double multiply(const Block *block, const float *table, const float *vector,
                              int64_t n, double *along) {
    const float *a = table + block->corner[0] * n, *b = table + block->corner[1] * n;
    const float *c = table + block->corner[2] * n, *d = table + block->corner[3] * n;
    double p = 0, q = 0, r = 0, s = 0, squared = 0;
    for (int64_t i = 0; i < n; i++) {
        const double value = vector[i];
        p += a[i] * value;
        q += b[i] * value;
        r += c[i] * value;
        s += d[i] * value;
        squared += value * value;
    }
    along[0] = p;
    along[1] = q;
    along[2] = r;
    along[3] = s;
    return squared;
}

/* Adds the stencil's part of four cells to them, and what their first patch gives.
 *
 * NaN: a block without pixels leaves its cells alone, whatever they hold.
 */
static inline void apply_stencil(const Block *block, const Stencil *stencil, const float *table,
                                 const double *sums, const float *vector, int64_t n,
                                 float *of_cells) {
    const float *a = table + block->corner[0] * n, *b = table + block->corner[1] * n;
    const float *c = table + block->corner[2] * n, *d = table + block->corner[3] * n;
    for (int corner = 0; corner < 4; corner++) {
        float *restrict cell = of_cells + block->corner[corner] * n;
        const double *above = stencil->sum[corner / 2] + corner % 2, *below = above + 3;
        const float p = (float)above[0], q = (float)above[1];
        const float r = (float)below[0], s = (float)below[1], sum = (float)sums[corner];
        for (int64_t i = 0; i < n; i++)
            cell[i] += p * a[i] + q * b[i] + r * c[i] + s * d[i] + sum * vector[i];
    }
}

#endif
