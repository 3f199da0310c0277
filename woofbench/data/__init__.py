"Datasets, images, and batches"
