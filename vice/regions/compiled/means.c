/* Means of upsampled embeddings over regions, on a CPU. */
#include "space.h"

static const float ones[ABREAST] = {1, 1, 1, 1};

/* Sums (regions, dim) over pixels, of unit length where lengths (pixels) are asked for.
 *
 * Functions that Python calls return 0, or 1 if there is no memory.
 */
int sum_regions(const Batch *batch, float *lengths, float *sums) {
    const int64_t dim = batch->dim;
    const int32_t width = batch->width;
    Space space;
    if (!reserve(batch, dim, &space)) return release(&space, 1);
    Patches *patches = &space.patches;
    Map map;
    while (take(batch, &map)) {
        float *own = lengths ? lengths + map.pixels : NULL;
        if (own) {
            multiply_cells(batch, &map, space.products);
            find_lengths(batch, space.products, space.lines, space.squares, own);
        }
        for (Block block = {0}; advance(batch, &block); forget(&map, patches)) {
            for (int32_t y = block.top; y < block.bottom; y++) {
                const int64_t line = (int64_t)y * batch->width;
                Run run = {.end = block.left};
                while (next_run(&map, map.row + line, &block, &run)) {
                    Doubles all = {0}, far = {0};
                    for (int32_t x = run.begin; x < run.end; x += ABREAST) {
                        const Doubles scale = own ? load(own + line, x, run.end, width)
                                                  : load(ones, 0, run.end - x, ABREAST);
                        all += scale;
                        far += scale * load_all(space.across + x);
                    }
                    const int32_t patch = patch_of(&map, run.row, patches);
                    add_run(patches, patch, batch->y_share[y], all, far);
                }
            }
            for (int32_t patch = 0; patch < patches->count; patch++)
                draw(&block, patches->total + 4 * patch, map.cells, dim,
                     sums + patches->row[patch] * dim);
        }
    }
    return release(&space, 0);
}

/* Inner products of a gradient with the cells of a block, as exact as it is. */
static inline void multiply_single(const Block *block, const float *table, const float *vector,
                                   int64_t n, double *along) {
    const float *a = table + block->corner[0] * n, *b = table + block->corner[1] * n;
    const float *c = table + block->corner[2] * n, *d = table + block->corner[3] * n;
    float p = 0, q = 0, r = 0, s = 0;
    for (int64_t i = 0; i < n; i++) {
        p += a[i] * vector[i];
        q += b[i] * vector[i];
        r += c[i] * vector[i];
        s += d[i] * vector[i];
    }
    along[0] = p;
    along[1] = q;
    along[2] = r;
    along[3] = s;
}

/* Gradient (maps, grid_height, grid_width, dim) from that of the sums; it begins with zeros. */
int sum_regions_backward(const Batch *batch, const float *lengths, const float *of_sums,
                         float *of_cells) {
    const int64_t dim = batch->dim;
    const int32_t width = batch->width;
    Space space;
    if (!reserve(batch, dim, &space)) return release(&space, 1);
    Patches *patches = &space.patches;
    Map map;
    while (take(batch, &map)) {
        const float *own = lengths ? lengths + map.pixels : NULL;
        float *found = of_cells + map.places * dim;
        for (Block block = {0}; advance(batch, &block); forget(&map, patches)) {
            Stencil stencil = {0};
            for (int32_t y = block.top; y < block.bottom; y++) {
                const int64_t line = (int64_t)y * batch->width;
                const double down = batch->y_share[y];
                Doubles moments[3] = {0};
                Run run = {.end = block.left};
                while (next_run(&map, map.row + line, &block, &run)) {
                    const int32_t known = patches->count;
                    const int32_t patch = patch_of(&map, run.row, patches);
                    double *along = patches->along + 4 * patch;
                    if (own && patch == known)
                        multiply_single(&block, map.cells, of_sums + run.row * dim, dim, along);
                    const Line turned = own ? line_of(along, down) : (Line){0};
                    Doubles all = {0}, far = {0};
                    for (int32_t x = run.begin; x < run.end; x += ABREAST) {
                        const Doubles across = load_all(space.across + x);
                        const Doubles scale = own ? load(own + line, x, run.end, width)
                                                  : load(ones, 0, run.end - x, ABREAST);
                        all += scale;
                        far += scale * across;
                        /* Epsilon: of what is shorter, and divided by it, no length counts. */
                        const Doubles mixed = turned.left + across * turned.step;
                        const Doubles number =
                            only(scale < 1 / EPSILON, -scale * scale * scale * mixed);
                        moments[0] += number;
                        moments[1] += number * across;
                        moments[2] += number * across * across;
                    }
                    add_run(patches, patch, down, all, far);
                }
                if (own) add_outer(&stencil, down, moments);
            }
            for (int32_t patch = 0; patch < patches->count; patch++) {
                const double *total = patches->total + 4 * patch;
                const float *vector = of_sums + patches->row[patch] * dim;
                if (own && !patch)
                    apply_stencil(&block, &stencil, map.cells, total, vector, dim, found);
                else
                    give(&block, total, vector, dim, found);
            }
        }
    }
    return release(&space, 0);
}
