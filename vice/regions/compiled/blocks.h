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

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define EPSILON 1e-12f
/* 8 units of rounding: what is shorter, a mix against its cells or a distance, is nothing else. */
#define NOISE 9.5367431640625e-7f

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
