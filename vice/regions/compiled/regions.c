/* Numbering of regions, and means and representatives of upsampled embeddings over them, on a CPU.
 *
 * Formulas and names as in vice/regions/means.py and representatives.py. A block is the pixels
 * between the same four cells, a patch those of one region in a block. Lengths of pixels are mixed
 * of inner products of cells, distances to a vector of those of cells and vector, both in double
 * precision; scores are mixed for each pixel, down once for each line of a block and then across.
 * What a pixel gives to its cells is summed up over a patch, or a block, as a handful of scalars in
 * double precision.
 * A map is computed by one thread, in one order, so results do not depend on how many there are.
 */
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
    const int32_t *y_low, *x_low;    /* cell before each pixel, along each axis */
    const float *y_share, *x_share;  /* share of the cell after it */
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

static int take(const Batch *batch, Map *map) {
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

/* The four cells of a block, from its upper left one; on a border the next cell is that one itself. */
static void find_corners(const Batch *batch, int32_t y, int32_t x, int64_t *corner) {
    const int64_t below = y + 1 < batch->grid_height ? batch->grid_width : 0;
    const int64_t beside = x + 1 < batch->grid_width;
    corner[0] = (int64_t)y * batch->grid_width + x;
    corner[1] = corner[0] + beside;
    corner[2] = corner[0] + below;
    corner[3] = corner[2] + beside;
}

/* The block of one pixel. */
static Block block_of(const Batch *batch, int64_t pixel) {
    const int32_t y = (int32_t)(pixel / batch->width), x = (int32_t)(pixel % batch->width);
    Block block = {.top = y, .bottom = y + 1, .left = x, .right = x + 1};
    find_corners(batch, batch->y_low[y], batch->x_low[x], block.corner);
    return block;
}

/* The next block in scan order; begins with one that is zero. */
static int advance(const Batch *batch, Block *block) {
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

/* Cells of both sides of a block on one of its lines: the left one, and the step to the right. */
static void mix_down(const Block *block, const float *table, int64_t n, float share, float *left,
                     float *step) {
    const float *a = table + block->corner[0] * n, *b = table + block->corner[1] * n;
    const float *c = table + block->corner[2] * n, *d = table + block->corner[3] * n;
    for (int64_t i = 0; i < n; i++) {
        const float near = a[i] + share * (c[i] - a[i]), far = b[i] + share * (d[i] - b[i]);
        left[i] = near;
        step[i] = far - near;
    }
}

/* Double precision: of weights rounded otherwise, lengths and distances would not belong together. */
static void shares(const Batch *batch, int32_t y, int32_t x, double *weights) {
    const double down = batch->y_share[y], across = batch->x_share[x];
    weights[0] = (1 - down) * (1 - across);
    weights[1] = (1 - down) * across;
    weights[2] = down * (1 - across);
    weights[3] = down * across;
}

static inline int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

/* Pixels of a line that are mixed at a time: a sum that waits for itself would leave units idle. */
#define ABREAST 4

/* Those of a line from x on; their shares, the last one repeated. */
typedef struct {
    int32_t count;
    int64_t pixel;
    const int32_t *row;
    float share[ABREAST];
} Abreast;

static Abreast abreast(const Batch *batch, const Map *map, const Block *block, int32_t y,
                       int32_t x) {
    Abreast some = {.count = smaller(block->right - x, ABREAST)};
    some.pixel = (int64_t)y * batch->width + x;
    some.row = map->row + some.pixel;
    for (int32_t i = 0; i < ABREAST; i++)
        some.share[i] = batch->x_share[x + smaller(i, some.count - 1)];
    return some;
}

/* Vectors of the compiler's: comparisons are then one instruction for all lanes, NaN or not. */
#define LANES 16
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Mask __attribute__((vector_size(4 * LANES), aligned(4)));

static inline Lanes larger_lanes(Lanes a, Lanes b) {
    const Mask is_larger = a > b;
    return (Lanes)((is_larger & (Mask)a) | (~is_larger & (Mask)b));
}

typedef float Half __attribute__((vector_size(2 * LANES), aligned(4)));
typedef int32_t HalfMask __attribute__((vector_size(2 * LANES), aligned(4)));

static inline float largest_lane(Lanes lanes) {
    const union {
        Lanes whole;
        Half half[2];
    } split = {lanes};
    const Half a = split.half[0], b = split.half[1];
    const HalfMask is_larger = a > b;
    const Half half = (Half)((is_larger & (HalfMask)a) | (~is_larger & (HalfMask)b));
    float most = half[0];
    for (int lane = 1; lane < LANES / 2; lane++) most = half[lane] > most ? half[lane] : most;
    return most;
}

/* Best of n scores of each pixel; n is a multiple of LANES. */
static void best_scores(const float *left, const float *step, const float *share, int64_t n,
                        float *found) {
    Lanes p = {0}, q, r, s;
    p = q = r = s = p - INFINITY;
    for (int64_t i = 0; i < n; i += LANES) {
        const Lanes a = *(const Lanes *)(left + i), b = *(const Lanes *)(step + i);
        p = larger_lanes(a + share[0] * b, p);
        q = larger_lanes(a + share[1] * b, q);
        r = larger_lanes(a + share[2] * b, r);
        s = larger_lanes(a + share[3] * b, s);
    }
    found[0] = largest_lane(p);
    found[1] = largest_lane(q);
    found[2] = largest_lane(r);
    found[3] = largest_lane(s);
}

/* 1 / |z|, at most 1 / epsilon; 0 where z is the rounding of cells that cancel. */
static inline float inverse_length(double squared, double longest) {
    const float length = (float)sqrt(squared);
    float found = length < EPSILON ? 1 / EPSILON : 1 / length;
    /* Overflow: a network that diverges must not look like one that gives nothing. */
    found = squared <= FLT_MAX ? found : NAN;
    return squared < NOISE * NOISE * longest ? 0 : found;
}

static inline double larger(double a, double b) { return a > b ? a : b; }

/* Inner products of a cell: with itself, those beside, below and across, and of those two. */
enum { ITSELF, BESIDE, BELOW, ACROSS, OPPOSITE, PRODUCTS };

static void multiply_cells(const Batch *batch, const Map *map, double *products) {
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

/* Squared and inverse lengths of a map's pixels; `lines` has space for four rows of cells.
 *
 * What the squares of a line are mixed of between two cells are those of both columns, mixed down,
 * and their inner product. It is bounded by the longest of the four cells.
 */
static void find_lengths(const Batch *batch, const double *products, double *lines,
                         double *squares, float *lengths) {
    const int64_t columns = batch->grid_width, width = batch->width;
    double *left = lines, *right = left + columns, *both = right + columns, *bound = both + columns;
    const int32_t *x_low = batch->x_low;
    const float *x_share = batch->x_share;
    int32_t before = -1;
    for (int32_t y = 0; y < batch->height; y++, squares += width, lengths += width) {
        const int32_t low = batch->y_low[y];
        const double *near = products + low * columns * PRODUCTS;
        const double *far = near + (low + 1 < batch->grid_height ? columns * PRODUCTS : 0);
        const double down = batch->y_share[y], up = 1 - down;
        for (int64_t x = 0; x < columns; x++) {
            const double *a = near + x * PRODUCTS, *c = far + x * PRODUCTS;
            left[x] = up * up * a[ITSELF] + 2 * up * down * a[BELOW] + down * down * c[ITSELF];
            both[x] = up * up * a[BESIDE] + up * down * (a[ACROSS] + a[OPPOSITE]) +
                      down * down * c[BESIDE];
        }
        for (int64_t x = 0; x < columns; x++) right[x] = left[x + 1 < columns ? x + 1 : x];
        if (low != before)
            for (int64_t x = 0; x < columns; x++) {
                const int64_t next = PRODUCTS * (x + 1 < columns ? x + 1 : x);
                bound[x] = larger(larger(near[x * PRODUCTS], near[next]),
                                  larger(far[x * PRODUCTS], far[next]));
            }
        before = low;
        for (int64_t x = 0; x < width; x++) {
            const int32_t cell = x_low[x];
            const double across = x_share[x], rest = 1 - across;
            squares[x] = rest * rest * left[cell] + 2 * rest * across * both[cell] +
                         across * across * right[cell];
            lengths[x] = inverse_length(squares[x], bound[cell]);
        }
    }
}

/* The patches of a block: their regions, and their pixels one patch after the other. */
typedef struct {
    int32_t count;
    int32_t *row;          /* of each patch */
    int64_t *begin;        /* where the pixels of each begin, and one more */
    int64_t *place;        /* of each pixel, within its map */
    double *down, *across; /* shares of each pixel */
    double *number;        /* what is computed of each pixel */
    int32_t *of;           /* patch of each pixel of the block, in scan order; -1 for none */
    int32_t *patch;        /* of each region of a map while a block is gathered, else -1 */
} Patches;

static inline void put(const Batch *batch, int32_t y, int32_t x, int64_t at, Patches *patches) {
    patches->place[at] = (int64_t)y * batch->width + x;
    patches->down[at] = batch->y_share[y];
    patches->across[at] = batch->x_share[x];
}

/* Whether all pixels of a block are of the same region, or of none. */
static int is_of_one(const Batch *batch, const Map *map, const Block *block) {
    const int32_t row = map->row[(int64_t)block->top * batch->width + block->left];
    for (int32_t y = block->top; y < block->bottom; y++) {
        const int32_t *line = map->row + (int64_t)y * batch->width;
        int32_t other = 0;
        for (int32_t x = block->left; x < block->right; x++) other |= line[x] ^ row;
        if (other) return 0;
    }
    return 1;
}

/* Counting sort: each pixel is looked at twice, however many regions there are. */
static void gather(const Batch *batch, const Map *map, const Block *block, Patches *patches) {
    int64_t place = 0;
    patches->count = 0;
    patches->begin[0] = 0;
    if (is_of_one(batch, map, block)) {
        const int32_t row = map->row[(int64_t)block->top * batch->width + block->left];
        if (!inside(map, row)) return;
        for (int32_t y = block->top; y < block->bottom; y++)
            for (int32_t x = block->left; x < block->right; x++)
                put(batch, y, x, place++, patches);
        patches->count = 1;
        patches->row[0] = row;
        patches->begin[1] = place;
        return;
    }
    for (int32_t y = block->top; y < block->bottom; y++)
        for (int32_t x = block->left; x < block->right; x++, place++) {
            const int32_t row = map->row[(int64_t)y * batch->width + x];
            patches->of[place] = -1;
            if (!inside(map, row)) continue;
            int32_t *patch = patches->patch + (row - map->first);
            if (*patch < 0) {
                *patch = patches->count++;
                patches->row[*patch] = row;
                patches->begin[*patch + 1] = 0;
            }
            patches->of[place] = *patch;
            patches->begin[*patch + 1]++;
        }
    for (int32_t patch = 0; patch < patches->count; patch++) {
        patches->patch[patches->row[patch] - map->first] = -1;
        patches->begin[patch + 1] += patches->begin[patch];
    }
    place = 0;
    for (int32_t y = block->top; y < block->bottom; y++)
        for (int32_t x = block->left; x < block->right; x++, place++)
            if (patches->of[place] >= 0)
                put(batch, y, x, patches->begin[patches->of[place]]++, patches);
    /* Each begins now where it ended. */
    for (int32_t patch = patches->count; patch > 0; patch--)
        patches->begin[patch] = patches->begin[patch - 1];
    patches->begin[0] = 0;
}

/* Adds a patch's sums of shares, times vector, to its four cells. */
static void give(const Block *block, const double *sums, const float *vector, int64_t n,
                 float *of_cells) {
    for (int corner = 0; corner < 4; corner++) {
        float *cell = of_cells + block->corner[corner] * n;
        const float sum = (float)sums[corner];
        for (int64_t i = 0; i < n; i++) cell[i] += sum * vector[i];
    }
}

/* The transposed sum: what a patch takes of its four cells. */
static void draw(const Block *block, const double *sums, const float *table, int64_t n,
                 float *vector) {
    const float *a = table + block->corner[0] * n, *b = table + block->corner[1] * n;
    const float *c = table + block->corner[2] * n, *d = table + block->corner[3] * n;
    const float p = (float)sums[0], q = (float)sums[1], r = (float)sums[2], s = (float)sums[3];
    for (int64_t i = 0; i < n; i++) vector[i] += p * a[i] + q * b[i] + r * c[i] + s * d[i];
}

/* Values of four cells, mixed for a pixel. */
static inline double mixed(const double *values, double down, double across) {
    const double near = values[0] + across * (values[1] - values[0]);
    const double far = values[2] + across * (values[3] - values[2]);
    return near + down * (far - near);
}

/* Numbers of a block's pixels: their inverse lengths, or 1. */
static void weigh(const float *lengths, const Patches *patches) {
    const int64_t pixels = patches->begin[patches->count];
    for (int64_t i = 0; i < pixels; i++)
        patches->number[i] = lengths ? lengths[patches->place[i]] : 1;
}

/* Sums of a patch's shares of the four cells, times the numbers of its pixels. */
static void add_shares(const Patches *patches, int32_t patch, double *total) {
    double a = 0, b = 0, c = 0, d = 0;
    for (int64_t i = patches->begin[patch]; i < patches->begin[patch + 1]; i++) {
        const double down = patches->down[i], across = patches->across[i];
        const double far = down * patches->number[i], near = patches->number[i] - far;
        b += across * near;
        a += near - across * near;
        d += across * far;
        c += far - across * far;
    }
    total[0] = a;
    total[1] = b;
    total[2] = c;
    total[3] = d;
}

/* Sums of number w w^T over pixels: what they have of cells above and below, and beside.
 *
 * w is a product of a share down and one across, so nine sums hold all sixteen products.
 */
typedef struct {
    double sum[3][3]; /* [0 above twice, 1 above and below, 2 below twice][the same across] */
} Stencil;

static void add_outer(const Patches *patches, int32_t patch, Stencil *stencil) {
    double a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0, k = 0;
    for (int64_t i = patches->begin[patch]; i < patches->begin[patch + 1]; i++) {
        const double down = patches->down[i], up = 1 - down;
        const double across = patches->across[i], rest = 1 - across;
        const double above = up * up * patches->number[i], between = up * down * patches->number[i];
        const double below = down * down * patches->number[i];
        a += rest * rest * above;
        b += rest * across * above;
        c += across * across * above;
        d += rest * rest * between;
        e += rest * across * between;
        f += across * across * between;
        g += rest * rest * below;
        h += rest * across * below;
        k += across * across * below;
    }
    const double found[3][3] = {{a, b, c}, {d, e, f}, {g, h, k}};
    for (int down = 0; down < 3; down++)
        for (int across = 0; across < 3; across++)
            stencil->sum[down][across] += found[down][across];
}

/* Inner products of a vector with the cells of a block, and with itself, which is returned. */
static double multiply(const Block *block, const float *table, const float *vector, int64_t n,
                       double *along) {
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

/* NaN: a block without pixels leaves its cells alone, whatever they hold. */
static void apply_stencil(const Block *block, const Stencil *stencil, const float *table, int64_t n,
                          float *of_cells) {
    const float *a = table + block->corner[0] * n, *b = table + block->corner[1] * n;
    const float *c = table + block->corner[2] * n, *d = table + block->corner[3] * n;
    for (int corner = 0; corner < 4; corner++) {
        float *cell = of_cells + block->corner[corner] * n;
        const double *above = stencil->sum[corner / 2] + corner % 2, *below = above + 3;
        const float p = (float)above[0], q = (float)above[1];
        const float r = (float)below[0], s = (float)below[1];
        for (int64_t i = 0; i < n; i++) cell[i] += p * a[i] + q * b[i] + r * c[i] + s * d[i];
    }
}

/* Most pixels that a block has. */
static int64_t largest_block(const Batch *batch) {
    int64_t most = 0;
    for (Block block = {0}; advance(batch, &block);) {
        const int64_t count =
            (int64_t)(block.bottom - block.top) * (block.right - block.left);
        if (count > most) most = count;
    }
    return most;
}

/* Space for a thread: two wide vectors, what lengths are found of, and the patches of a block. */
typedef struct {
    float *wide;
    double *products, *lines, *squares;
    Patches patches;
} Space;

static int reserve(const Batch *batch, int64_t width, Space *space) {
    const size_t cells = (size_t)batch->grid_height * (size_t)batch->grid_width;
    const size_t pixels = (size_t)largest_block(batch);
    size_t regions = 0;
    for (int32_t map = batch->first; map < batch->last; map++) {
        const size_t own = (size_t)(batch->bounds[map + 1] - batch->bounds[map]);
        if (own > regions) regions = own;
    }
    Patches *patches = &space->patches;
    space->wide = malloc(sizeof(float) * 2 * (size_t)width);
    space->products = malloc(sizeof(double) * PRODUCTS * cells);
    space->lines = malloc(sizeof(double) * 4 * (size_t)batch->grid_width);
    space->squares = malloc(sizeof(double) * (size_t)batch->height * (size_t)batch->width);
    patches->row = malloc(sizeof(int32_t) * (pixels + 1));
    patches->begin = malloc(sizeof(int64_t) * (pixels + 1));
    patches->place = malloc(sizeof(int64_t) * (pixels + 1));
    patches->down = malloc(sizeof(double) * (pixels + 1));
    patches->across = malloc(sizeof(double) * (pixels + 1));
    patches->number = malloc(sizeof(double) * (pixels + 1));
    patches->of = malloc(sizeof(int32_t) * (pixels + 1));
    patches->patch = malloc(sizeof(int32_t) * (regions + 1));
    if (!space->wide || !space->products || !space->lines || !space->squares || !patches->row ||
        !patches->begin || !patches->place || !patches->down || !patches->across ||
        !patches->number || !patches->of || !patches->patch)
        return 0;
    for (size_t region = 0; region < regions; region++) patches->patch[region] = -1;
    return 1;
}

static int release(Space *space, int status) {
    free(space->wide);
    free(space->products);
    free(space->lines);
    free(space->squares);
    free(space->patches.row);
    free(space->patches.begin);
    free(space->patches.place);
    free(space->patches.down);
    free(space->patches.across);
    free(space->patches.number);
    free(space->patches.of);
    free(space->patches.patch);
    return status;
}

/* Sums (regions, dim) over pixels, of unit length where lengths (pixels) are asked for.
 *
 * All of these return 0, or 1 if there is no memory.
 */
int sum_regions(const Batch *batch, float *lengths, float *sums) {
    const int64_t dim = batch->dim;
    Space space;
    if (!reserve(batch, dim, &space)) return release(&space, 1);
    const Patches *patches = &space.patches;
    Map map;
    while (take(batch, &map)) {
        float *own = lengths ? lengths + map.pixels : NULL;
        if (own) {
            multiply_cells(batch, &map, space.products);
            find_lengths(batch, space.products, space.lines, space.squares, own);
        }
        for (Block block = {0}; advance(batch, &block);) {
            gather(batch, &map, &block, &space.patches);
            weigh(own, &space.patches);
            for (int32_t patch = 0; patch < patches->count; patch++) {
                double total[4];
                add_shares(patches, patch, total);
                draw(&block, total, map.cells, dim, sums + patches->row[patch] * dim);
            }
        }
    }
    return release(&space, 0);
}

/* Gradient (maps, grid_height, grid_width, dim) from that of the sums; it begins with zeros. */
int sum_regions_backward(const Batch *batch, const float *lengths, const float *of_sums,
                         float *of_cells) {
    const int64_t dim = batch->dim;
    Space space;
    if (!reserve(batch, dim, &space)) return release(&space, 1);
    const Patches *patches = &space.patches;
    Map map;
    while (take(batch, &map)) {
        const float *own = lengths ? lengths + map.pixels : NULL;
        float *found = of_cells + map.places * dim;
        for (Block block = {0}; advance(batch, &block);) {
            Stencil stencil = {0};
            gather(batch, &map, &block, &space.patches);
            weigh(own, &space.patches);
            for (int32_t patch = 0; patch < patches->count; patch++) {
                const float *gradient = of_sums + patches->row[patch] * dim;
                double total[4], along[4];
                add_shares(patches, patch, total);
                give(&block, total, gradient, dim, found);
                if (!own) continue;
                multiply(&block, map.cells, gradient, dim, along);
                for (int64_t i = patches->begin[patch]; i < patches->begin[patch + 1]; i++) {
                    const double scale = patches->number[i];
                    const double turned = mixed(along, patches->down[i], patches->across[i]);
                    /* Epsilon: shorter vectors are divided by it, their length has no gradient. */
                    patches->number[i] =
                        scale >= 1 / EPSILON ? 0 : -scale * scale * scale * turned;
                }
                add_outer(patches, patch, &stencil);
            }
            if (own && patches->count) apply_stencil(&block, &stencil, map.cells, dim, found);
        }
    }
    return release(&space, 0);
}

/* NaN is better than any number, so that it comes out again. */
static inline float better(float score) { return isnan(score) ? INFINITY : score; }

static void choose(int64_t pixel, float score, float *best, int64_t *chosen) {
    score = better(score);
    /* Between equal scores the first pixel in scan order wins. */
    if (score < *best || (score == *best && pixel > *chosen)) return;
    *best = score;
    *chosen = pixel;
}

/* Of each region a pixel whose bound is highest. */
static void begin_with_bounds(const Batch *batch, const Map *map, const float *bounds,
                              int64_t *chosen) {
    const int64_t pixels = (int64_t)batch->height * batch->width;
    for (int32_t row = map->first; row < map->last; row++) chosen[row] = -1;
    for (int64_t pixel = 0; pixel < pixels; pixel++) {
        const int32_t row = map->row[pixel];
        if (!inside(map, row)) continue;
        if (chosen[row] < 0 || bounds[pixel] > bounds[chosen[row]]) chosen[row] = pixel;
    }
}

/* Whether the bound of one of some pixels is not below the best score of its region; NaN is not. */
static inline int may_be_best(const Map *map, int64_t pixel, int32_t count, const float *bounds,
                              const float *best) {
    int may = 0;
    for (int64_t i = pixel; i < pixel + count; i++) {
        const int32_t row = map->row[i];
        if (inside(map, row)) may |= !(bounds[i] < best[row - map->first]);
    }
    return may;
}

/* What no score of a pixel is above, times its inverse length: a mix of what its cells' are not above.
 *
 * `tops` has space for a number for each cell, `lines` for two rows of them. Rounding is that of the
 * largest score, whichever cells it is of. Where a score is no number, a bound is none either, or
 * infinite.
 */
static void bound_scores(const Batch *batch, const float *scores, int32_t prototypes, double *tops,
                         double *lines, const float *own, float *bounds) {
    const int64_t columns = batch->grid_width, cells = columns * batch->grid_height;
    float most = 0;
    for (int64_t cell = 0; cell < cells; cell++) {
        const float *of_cell = scores + cell * prototypes;
        Lanes top = {0}, bottom;
        top = bottom = top - INFINITY;
        for (int64_t i = 0; i < prototypes; i += LANES) {
            const Lanes next = *(const Lanes *)(of_cell + i);
            top = larger_lanes(next, top);
            bottom = larger_lanes(-next, bottom);
        }
        tops[cell] = largest_lane(top);
        const float far = largest_lane(larger_lanes(top, bottom));
        if (!(far <= most)) most = far;
    }
    const double slack = 2 * (double)NOISE * most;
    double *near = lines, *step = lines + columns;
    for (int32_t y = 0; y < batch->height; y++) {
        const double *above = tops + batch->y_low[y] * columns;
        const double *below = above + (batch->y_low[y] + 1 < batch->grid_height ? columns : 0);
        const double down = batch->y_share[y];
        for (int64_t x = 0; x < columns; x++)
            near[x] = above[x] + down * (below[x] - above[x]) + slack;
        for (int64_t x = 0; x < columns; x++) step[x] = near[x + 1 < columns ? x + 1 : x] - near[x];
        for (int64_t x = 0; x < batch->width; x++, own++, bounds++) {
            const int32_t cell = batch->x_low[x];
            *bounds = (float)((near[cell] + batch->x_share[x] * step[cell]) * *own);
        }
    }
}

/* Of each region the best pixel (int64, within its map), its vector, and the sum of distances.
 *
 * `scores` (last - first, grid_height, grid_width, prototypes) are those of the cells, a multiple of
 * LANES. Inverse lengths and distances (pixels) are kept for the way back.
 */
int represent(const Batch *batch, const float *scores, int32_t prototypes, float *lengths,
              float *distances, int64_t *chosen, float *vectors, double *sums) {
    const int64_t dim = batch->dim, wide = dim > prototypes ? dim : prototypes;
    Space space;
    if (!reserve(batch, wide, &space)) return release(&space, 1);
    float *left = space.wide, *step = space.wide + wide;
    const Patches *patches = &space.patches;
    Map map;
    while (take(batch, &map)) {
        const int32_t regions = map.last - map.first;
        float *best = malloc(sizeof(float) * (size_t)(regions + 1));
        if (!best) return release(&space, 1);
        float *own = lengths + map.pixels, *apart = distances + map.pixels;
        const int64_t before = (int64_t)batch->first * batch->grid_height * batch->grid_width;
        const float *of_cells = scores + (map.places - before) * prototypes;
        multiply_cells(batch, &map, space.products);
        find_lengths(batch, space.products, space.lines, space.squares, own);
        /* Branch and bound: few pixels may have the best score, and only theirs are mixed. */
        const float *bounds = apart;
        bound_scores(batch, of_cells, prototypes, space.products, space.lines, own, apart);
        begin_with_bounds(batch, &map, bounds, chosen);
        for (int32_t row = map.first; row < map.last; row++) {
            if (chosen[row] < 0) continue;
            const Block block = block_of(batch, chosen[row]);
            const Abreast one = abreast(batch, &map, &block, block.top, block.left);
            float found[ABREAST];
            mix_down(&block, of_cells, prototypes, batch->y_share[block.top], left, step);
            best_scores(left, step, one.share, prototypes, found);
            best[row - map.first] = better(found[0] * own[chosen[row]]);
        }
        for (Block block = {0}; advance(batch, &block);)
            for (int32_t y = block.top; y < block.bottom; y++) {
                int ready = 0;
                const int64_t line = (int64_t)y * batch->width;
                for (int32_t x = block.left; x < block.right; x += ABREAST) {
                    const int32_t count = smaller(block.right - x, ABREAST);
                    if (!may_be_best(&map, line + x, count, bounds, best)) continue;
                    const Abreast some = abreast(batch, &map, &block, y, x);
                    if (!ready)
                        mix_down(&block, of_cells, prototypes, batch->y_share[y], left, step);
                    ready = 1;
                    float found[ABREAST];
                    best_scores(left, step, some.share, prototypes, found);
                    for (int32_t i = 0; i < some.count; i++)
                        if (inside(&map, some.row[i]))
                            choose(some.pixel + i, found[i] * own[some.pixel + i],
                                   best + (some.row[i] - map.first), chosen + some.row[i]);
                }
            }
        free(best);
        for (int64_t row = map.first; row < map.last; row++) {
            if (chosen[row] < 0) continue;
            const Block block = block_of(batch, chosen[row]);
            mix_down(&block, map.cells, dim, batch->y_share[block.top], left, step);
            float *vector = vectors + row * dim;
            const float share = batch->x_share[block.left], scale = own[chosen[row]];
            for (int64_t i = 0; i < dim; i++) vector[i] = scale * (left[i] + share * step[i]);
        }
        for (Block block = {0}; advance(batch, &block);) {
            gather(batch, &map, &block, &space.patches);
            for (int32_t patch = 0; patch < patches->count; patch++) {
                const int64_t row = patches->row[patch];
                double along[4];
                const double squared =
                    multiply(&block, map.cells, vectors + row * dim, dim, along);
                for (int64_t i = patches->begin[patch]; i < patches->begin[patch + 1]; i++) {
                    const double scale = own[patches->place[i]];
                    const double turned = mixed(along, patches->down[i], patches->across[i]);
                    const double left_over = scale * scale * space.squares[patches->place[i]] -
                                             2 * scale * turned + squared;
                    patches->number[i] = sqrt(larger(0, left_over));
                }
                for (int64_t i = patches->begin[patch]; i < patches->begin[patch + 1]; i++) {
                    const int64_t place = patches->place[i];
                    const float distance = (float)patches->number[i];
                    /* Rounding: mixed in two ways, the chosen pixel would differ from itself. */
                    const int is_none = chosen[row] == place || distance < NOISE;
                    apart[place] = is_none ? 0 : distance;
                    sums[row] += apart[place];
                }
            }
        }
    }
    return release(&space, 0);
}

/* Gradient of the cells from that of vectors (regions, dim) and of sums of distances (regions).
 *
 * `drawn` (regions, dim) and `pulls` (regions) are zeros, and left out where distances do not pull
 * at their representative. The gradient begins with zeros.
 */
int represent_backward(const Batch *batch, const float *lengths, const float *distances,
                       const int64_t *chosen, const float *vectors, const float *of_vectors,
                       const float *of_sums, float *drawn, float *pulls, float *of_cells) {
    const int64_t dim = batch->dim;
    Space space;
    if (!reserve(batch, dim, &space)) return release(&space, 1);
    float *given = space.wide;
    const Patches *patches = &space.patches;
    Map map;
    while (take(batch, &map)) {
        const float *own = lengths + map.pixels, *apart = distances + map.pixels;
        float *found = of_cells + map.places * dim;
        for (Block block = {0}; advance(batch, &block);) {
            Stencil stencil = {0};
            gather(batch, &map, &block, &space.patches);
            for (int32_t patch = 0; patch < patches->count; patch++) {
                const int64_t row = patches->row[patch];
                const float *vector = vectors + row * dim;
                const double of_sum = of_sums[row], squared = dot(vector, vector, dim);
                double total[4], pulled = 0;
                for (int64_t i = patches->begin[patch]; i < patches->begin[patch + 1]; i++) {
                    const double far = apart[patches->place[i]];
                    const double pull = far > 0 ? of_sum / far : 0;
                    pulled += pull;
                    patches->number[i] = -pull * own[patches->place[i]];
                }
                add_shares(patches, patch, total);
                give(&block, total, vector, dim, found);
                if (drawn) {
                    draw(&block, total, map.cells, dim, drawn + row * dim);
                    pulls[row] += (float)pulled;
                }
                for (int64_t i = patches->begin[patch]; i < patches->begin[patch + 1]; i++) {
                    const double scale = own[patches->place[i]], far = apart[patches->place[i]];
                    /* p of unit length gives c p - v; p below epsilon is divided by it: p - v. */
                    const double closeness =
                        scale < 1 / EPSILON ? (1 + squared - far * far) / 2 : 1;
                    patches->number[i] *= -scale * closeness;
                }
                add_outer(patches, patch, &stencil);
            }
            if (patches->count) apply_stencil(&block, &stencil, map.cells, dim, found);
        }
        for (int64_t row = map.first; row < map.last; row++) {
            if (chosen[row] < 0) continue;
            const Block block = block_of(batch, chosen[row]);
            const float *vector = vectors + row * dim, *gradient = of_vectors + row * dim;
            const float scale = own[chosen[row]], pulled = drawn ? pulls[row] : 0;
            for (int64_t i = 0; i < dim; i++) given[i] = gradient[i] + pulled * vector[i];
            /* What is drawn has the sign of the pull. */
            if (drawn)
                for (int64_t i = 0; i < dim; i++) given[i] += drawn[row * dim + i];
            const float along = scale < 1 / EPSILON ? (float)dot(given, vector, dim) : 0;
            for (int64_t i = 0; i < dim; i++) given[i] = scale * (given[i] - along * vector[i]);
            double weights[4];
            shares(batch, block.top, block.left, weights);
            give(&block, weights, given, dim, found);
        }
    }
    return release(&space, 0);
}

/* Counts (maps, bound) the pixels of each region; ids below 0 belong to none, none is too large. */
void count_pixels(const int32_t *ids, int64_t maps, int64_t pixels, int64_t bound,
                  int64_t *counts) {
    for (int64_t map = 0; map < maps; map++, ids += pixels, counts += bound)
        for (int64_t pixel = 0, run = 0; pixel < pixels; pixel++) {
            /* Runs: a counter that every pixel adds to would wait for itself each time. */
            run++;
            if (pixel + 1 < pixels && ids[pixel + 1] == ids[pixel]) continue;
            if (ids[pixel] >= 0) counts[ids[pixel]] += run;
            run = 0;
        }
}

/* Looks up (maps, bound) the row of each pixel's region; `none` where it has no region. */
void look_up_rows(const int32_t *ids, int64_t maps, int64_t pixels, int64_t bound,
                  const int32_t *rows, int32_t none, int32_t *found) {
    for (int64_t map = 0; map < maps; map++, ids += pixels, rows += bound, found += pixels)
        for (int64_t pixel = 0; pixel < pixels; pixel++)
            found[pixel] = ids[pixel] >= 0 ? rows[ids[pixel]] : none;
}
