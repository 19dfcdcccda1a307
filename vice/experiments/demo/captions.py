"""The words beside the pictures of the demo's report."""

TEXTS = {
    "curves": """How training went. The loss compares what two views of a region predict; a model
        that gives all K prototypes the same score sits at ln K, the dashed line. It must fall
        below it while the prototypes stay in use: a perplexity near 1 means that everything falls
        into one prototype (collapse), near K that all are used alike.""",
    "views": """What one training step sees. Crops of one image show some of the same superpixels;
        the loss asks that each of them gets the same prototype in every view, so the network has
        to find what stays when place, size and colour change.""",
    "classes": """Predicted classes beside the truth, on val images that no fit has seen. The
        linear probe was fitted with the labels of the train images; clusters were found without
        labels and only named with them.""",
    "pca": """What the embedding tells apart. All D dimensions of a pixel's embedding are projected
        on their three main directions, which become red, green and blue. Equal colours mean
        similar embeddings, in all images of a column; the colours themselves mean nothing.""",
    "clusters": """Groups the embedding forms by itself, without any label: k-means on the
        embeddings of the images. A colour is a cluster, the same one in all images of a column.
        Few clusters show the coarsest differences; more split them.""",
    "photographs": """The same model on whole photographs. They have no labels, so no score; they
        show what carries over from the training images.""",
}
CAPTIONS = {
    "curves": """Loss with the level of chance, loss over ln K, prototypes in use, mutual regions
        in a view, the share of pixels discarded because a view lacks or masks their region, and the
        learning rate, over iterations.""",
    "views": """{name}: left, the image and the box of each view; above, the views with the borders
        of their {count} mutual regions, masked areas as noise; below, the mutual regions, the same
        colour for the same region in each view.""",
    "classes": """Each row is one image; a colour is a class, as in the line below. Where a map
        equals the truth, the pixel is right.""",
    "pca": """Principal components of the embedding as colours: with random weights, and after
        training. Borders that appear only in the right column are learnt.""",
    "clusters": """k-means on the embeddings, with more and more clusters from left to right.""",
}
#: What the demo's classes are.
CLASS_NOTES = {
    "brick": "a brick wall",
    "grass": "a lawn from above",
    "gravel": "loose stones",
    "galaxies": "faint galaxies, from the Hubble deep field",
    "vessels": "blood vessels on a retina",
    "wood": "grain of a table, from the photograph of a coffee cup",
}
