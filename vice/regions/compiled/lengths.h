/* Lengths of pixels, mixed of inner products of cells. */
#ifndef VICE_LENGTHS_H
#define VICE_LENGTHS_H

#include <float.h>
#include <math.h>

#include "blocks.h"

#define EPSILON 1e-12f
/* 8 units of rounding: what is shorter, a mix against its cells or a distance, is nothing else. */
#define NOISE 9.5367431640625e-7f

/* 1 / |z|, at most 1 / epsilon; 0 where z is the rounding of cells that cancel. */
static inline float inverse_length(double squared, double longest) {
    const float length = sqrtf((float)squared);
    float found = length < EPSILON ? 1 / EPSILON : 1 / length;
    /* Overflow: a network that diverges must not look like one that gives nothing. */
    found = squared <= FLT_MAX ? found : NAN;
    return squared < NOISE * NOISE * longest ? 0 : found;
}

static inline double larger(double a, double b) { return a > b ? a : b; }

/* Inner products of a cell: with itself, those beside, below and across, and of those two. */
enum { ITSELF, BESIDE, BELOW, ACROSS, OPPOSITE, PRODUCTS };

static inline void multiply_cells(const Batch *batch, const Map *map, double *products) {
    const int64_t dim = batch->dim;
    for (int32_t y = 0; y < batch->grid_height; y++)
        for (int32_t x = 0; x < batch->grid_width; x++, products += PRODUCTS) {
            int64_t corner[4];
            find_corners(batch, y, x, corner);
            const float *a = map->cells + corner[0] * dim, *b = map->cells + corner[1] * dim;
            const float *c = map->cells + corner[2] * dim, *d = map->cells + corner[3] * dim;
            double aa = 0, ab = 0, ac = 0, ad = 0, bc = 0;
            for (int64_t i = 0; i < dim; i++) {
                const double e = a[i], f = b[i], g = c[i];
                aa += e * e;
                ab += e * f;
                ac += e * g;
                ad += e * (double)d[i];
                bc += f * g;
            }
            products[ITSELF] = aa;
            products[BESIDE] = ab;
            products[BELOW] = ac;
            products[ACROSS] = ad;
            products[OPPOSITE] = bc;
        }
}

/* Squared and inverse lengths of a map's pixels; `lines` has space for four lines of pixels.
 *
 * The square of a pixel is mixed down of three numbers, which those between two rows of cells share
 * with all above and below them: the squares on both rows, mixed across, and their inner product.
 * It is bounded by the longest of its four cells.
 */
static inline void find_lengths(const Batch *batch, const double *products, double *lines,
                                double *squares, float *lengths) {
    const int64_t columns = batch->grid_width, width = batch->width;
    double *near = lines, *both = near + width, *far = both + width, *bound = far + width;
    int32_t before = -1;
    for (int32_t y = 0; y < batch->height; y++, squares += width, lengths += width) {
        const int32_t low = batch->y_low[y];
        const double *above = products + low * columns * PRODUCTS;
        const double *below = above + (low + 1 < batch->grid_height ? columns * PRODUCTS : 0);
        for (int64_t x = 0; x < width && low != before; x++) {
            const int64_t cell = batch->x_low[x], next = cell + 1 < columns ? cell + 1 : cell;
            const double *a = above + cell * PRODUCTS, *b = above + next * PRODUCTS;
            const double *c = below + cell * PRODUCTS, *d = below + next * PRODUCTS;
            const double across = batch->x_share[x], rest = 1 - across;
            const double itself = rest * rest, beside = rest * across, other = across * across;
            near[x] = itself * a[ITSELF] + 2 * beside * a[BESIDE] + other * b[ITSELF];
            both[x] = itself * a[BELOW] + beside * (a[ACROSS] + a[OPPOSITE]) + other * b[BELOW];
            far[x] = itself * c[ITSELF] + 2 * beside * c[BESIDE] + other * d[ITSELF];
            bound[x] = larger(larger(a[ITSELF], b[ITSELF]), larger(c[ITSELF], d[ITSELF]));
        }
        before = low;
        const double down = batch->y_share[y], up = 1 - down;
        for (int64_t x = 0; x < width; x++) {
            squares[x] = up * up * near[x] + 2 * up * down * both[x] + down * down * far[x];
            lengths[x] = inverse_length(squares[x], bound[x]);
        }
    }
}

#endif
