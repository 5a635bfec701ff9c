//! A parent and its children, one for each class of workers.

use fleetune_coordinator::storage::{Family, NewStudy, StoreError, StudyRecord};
use fleetune_core::StudyState;
use fleetune_core::schedule::{Per, Schedule};

use super::harness::{Db, at, job, new_study, start_at};

async fn parent(db: &Db, name: &str) -> StudyRecord {
    let schedule = Schedule { priority: 3, ..Schedule::default() };
    let family = Some(Family::Parent(Per::Label("rack".to_owned())));
    let new = NewStudy { schedule, family, ..new_study(name, StudyState::Active) };
    db.store.create_study(new, at(0)).await.unwrap()
}

async fn child(db: &Db, parent: &StudyRecord, class: &str) -> Result<StudyRecord, StoreError> {
    db.store.create_child(parent.id, class.to_owned(), at(1)).await
}

pub async fn a_child_is_made_once_for_each_class(db: Db) {
    let parent = parent(&db, "a").await;
    let mut tasks = tokio::task::JoinSet::new();
    for place in 0..8 {
        let store = if place % 2 == 0 { db.store.clone() } else { db.second().await };
        let id = parent.id;
        tasks.spawn(async move {
            loop {
                match store.create_child(id, "7/x".to_owned(), at(1)).await {
                    Err(StoreError::Busy(_)) => {}
                    made => return made.unwrap().id,
                }
            }
        });
    }
    let made = tasks.join_all().await;
    assert!(made.iter().all(|id| *id == made[0]), "{made:?}");
    let other = child(&db, &parent, "8").await.unwrap();
    let children = db.store.children(parent.id).await.unwrap();
    let names: Vec<_> = children.iter().map(|child| child.name.as_str()).collect();
    assert_eq!(names, ["a@7_x", "a@8"]);
    let first = &children[0];
    assert_eq!((&first.config, &first.schedule), (&parent.config, &parent.schedule));
    assert_eq!((first.state, first.parent()), (StudyState::Preparing, Some(parent.id)));
    assert_eq!(first.family.as_ref().and_then(Family::class), Some("7/x"));
    job(db.claim(&other, "w", 2).await);
    assert_eq!(db.store.children(first.id).await.unwrap(), []);
}

pub async fn a_child_takes_no_name_of_another_study(db: Db) {
    let parent = parent(&db, "a").await;
    db.study("a@7").await;
    assert_eq!(child(&db, &parent, "7").await.unwrap().name, "a@7 (2)");
}

pub async fn only_an_active_parent_gets_children(db: Db) {
    let parent = parent(&db, "a").await;
    let first = child(&db, &parent, "7").await.unwrap();
    db.set_state(&parent, StudyState::Paused, 2).await;
    // The one that is there is found all the same.
    assert_eq!(child(&db, &parent, "7").await.unwrap().id, first.id);
    for study in [&parent, &first, &db.study("b").await] {
        let refused = child(&db, study, "8").await.unwrap_err();
        assert!(matches!(refused, StoreError::WrongStudyState { .. }), "{refused}");
    }
    db.set_state(&parent, StudyState::Active, 3).await;
    for class in 1..64 {
        child(&db, &parent, &format!("of {class}")).await.unwrap();
    }
    let refused = child(&db, &parent, "one more").await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { limit: 64, .. }), "{refused}");
}

pub async fn a_parent_has_no_trials(db: Db) {
    let parent = parent(&db, "a").await;
    let start = start_at(parent.id, parent.next_turn, &[parent.next_number]);
    let refused = db.store.start(start, at(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::IsParent(_)), "{refused}");
    let entries = vec![super::harness::waiting(0)];
    let refused = db.store.enqueue(parent.id, "q".to_owned(), entries, at(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::IsParent(_)), "{refused}");
    assert_eq!(db.reread(&parent).await, parent);
}

pub async fn a_parent_is_deleted_with_its_children(db: Db) {
    let (parent, other) = (parent(&db, "a").await, parent(&db, "b").await);
    let gone = child(&db, &parent, "7").await.unwrap();
    let stays = child(&db, &other, "7").await.unwrap();
    db.store.delete_study(parent.id).await.unwrap();
    assert!(matches!(db.store.study(gone.id).await, Err(StoreError::StudyNotFound(_))));
    assert_eq!(db.reread(&stays).await, stays);
}
